"""What the published dashboard for rtcd asks Prometheus for, panel by panel."""

from __future__ import annotations

from typing import NamedTuple


class Expression(NamedTuple):
    """One expression of a panel; `SELECT` stands for the selection of the server."""

    panel: str
    text: str

    def of(self, instance: str) -> str:
        """The expression for one server, selected as the dashboard does."""
        return self.text.replace("SELECT", f'instance=~"{instance}"')


def average_and_tail(panel: str, metric: str, label: str = "") -> list[Expression]:
    """The two curves that the dashboard draws of a histogram."""
    by = f"by ({label}) " if label else ""
    le = f"le, {label}" if label else "le"
    rate = f"rate({metric}_%s{{SELECT}}[2m])"
    return [
        Expression(panel, f"sum {by}({rate % 'sum'}) / sum {by}({rate % 'count'})"),
        Expression(panel, f"histogram_quantile(0.99, sum by ({le}) ({rate % 'bucket'}))"),
    ]


EXPRESSIONS = [
    Expression(
        "CPU", "sum by (instance) (irate(rtcd_process_cpu_seconds_total{SELECT}[2m])) * 100"
    ),
    Expression("Memory", "go_memstats_heap_inuse_bytes{SELECT}"),
    Expression("Memory", "go_memstats_stack_inuse_bytes{SELECT}"),
    Expression("Goroutines", "go_goroutines{SELECT}"),
    Expression("WebSocket Connections (rtcd)", "rtcd_ws_connections_total{SELECT}"),
    Expression(
        "WebSocket Messages (rtcd)",
        "sum by (type, instance) (rate(rtcd_ws_messages_total{SELECT}[2m]))",
    ),
    Expression("RTC Sessions", "sum by (instance) (rtcd_rtc_sessions_total{SELECT})"),
    Expression("RTC Errors", "sum by (type, instance) (increase(rtcd_rtc_errors_total{SELECT}[2m]))"),
    Expression(
        "RTP Tracks", "sum by (instance, direction, type) (rtcd_rtc_rtp_tracks_total{SELECT})"
    ),
    *average_and_tail("RTP Tracks Writes", "rtcd_rtc_rtp_tracks_writes_time", "type"),
    Expression(
        "RTC Events", "sum by (type) (increase(rtcd_rtc_conn_states_total{SELECT}[2m]))"
    ),
    *average_and_tail("RTC Connection Times", "rtcd_rtc_connection_time"),
    *average_and_tail("Signaling Lock Grab Times", "rtcd_rtc_signaling_lock_grab_time"),
    *average_and_tail("Signaling Lock Locked Times", "rtcd_rtc_signaling_lock_locked_time"),
    *average_and_tail("Round Trip Times", "rtcd_rtc_client_rtt"),
    *average_and_tail("Jitter", "rtcd_rtc_client_jitter"),
    *average_and_tail("Loss Rates", "rtcd_rtc_client_loss_rate"),
    # Not on the dashboard, but in the vendor's documentation or metrics.
    Expression("", "sum by (direction, type) (rate(rtcd_rtc_rtp_bytes_total{SELECT}[2m]))"),
    Expression("", "sum by (direction, type) (rate(rtcd_rtc_rtp_packets_total{SELECT}[2m]))"),
    *average_and_tail("", "rtcd_rtc_dc_open_time"),
    Expression("", "rtcd_process_open_fds{SELECT} / rtcd_process_max_fds{SELECT}"),
    Expression(
        "", "rtcd_process_virtual_memory_bytes{SELECT} / rtcd_process_virtual_memory_max_bytes"
    ),
    Expression("", "rtcd_process_resident_memory_bytes{SELECT}"),
    Expression("", "time() - rtcd_process_start_time_seconds{SELECT}"),
]
