"""Stands where the Calls plugin stands: between browsers and the server's WebSocket for plugins.

Browsers speak JSON, `{"action", "data"}` one way and `{"event", "data"}` the other, with the
plugin's names. The server gets and sends pairs of MessagePack values. All that passes between relay
and server is recorded.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import string
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgpack
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

PAGES = Path(__file__).parent
FILE_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
OPEN_TIMEOUT_S = 5.0

# What the `type` of an `rtc` message says.
ICE, SDP, MUTE, UNMUTE, SCREEN_ON, SCREEN_OFF, VOICE_ON, VOICE_OFF, VIDEO_ON, VIDEO_OFF = range(1, 11)

RTC_TYPES = {
    "ice": ICE,
    "sdp": SDP,
    "mute": MUTE,
    "unmute": UNMUTE,
    "screen_on": SCREEN_ON,
    "screen_off": SCREEN_OFF,
    "video_on": VIDEO_ON,
    "video_off": VIDEO_OFF,
}
# What the plugin tells everybody in the call of; the other actions are between one and the server.
ANNOUNCED = {
    "mute": "user_muted",
    "unmute": "user_unmuted",
    "screen_on": "user_screen_on",
    "screen_off": "user_screen_off",
    "video_on": "user_video_on",
    "video_off": "user_video_off",
}


class RelayError(Exception):
    """The server did not say what the relay waited for."""


@dataclass(frozen=True)
class Message:
    """One message between relay and server."""

    to_server: bool
    kind: str
    """`join`, `rtc` and so on."""
    payload: dict[str, Any]

    @property
    def session(self) -> str:
        """The session that it is about; empty where there is none."""
        return self.payload.get("session_id") or self.payload.get("sessionID") or ""

    @property
    def rtc_type(self) -> int:
        """Number that says what an `rtc` or `vad` message is; 0 for others."""
        return self.payload.get("type", 0)

    @property
    def signal(self) -> dict[str, Any]:
        """The JSON within; empty where there is none."""
        return json.loads(self.payload["data"]) if self.payload.get("data") else {}

    def __str__(self) -> str:
        arrow = "to" if self.to_server else "from"
        what = self.signal.get("type", "") if self.payload.get("data") else ""
        return f"{arrow} server: {self.kind} {self.rtc_type or ''} {what} session {self.session}"


@dataclass
class Tab:
    """One browser tab in a call."""

    connection: ServerConnection
    call: str
    user: str


def new_id() -> str:
    """An id as those of Mattermost: 26 small letters and digits."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(26))


class Relay:
    """Serves the participants' page and joins their sessions to the server until `close`."""

    def __init__(self, server_url: str) -> None:
        """Registers a client of its own with the server, and connects."""
        self.server_url = server_url
        self.client_id = new_id()
        self._key = secrets.token_urlsafe(24)
        self._changed = threading.Condition()
        self._messages: list[Message] = []
        self._tabs: dict[str, Tab] = {}  # by session
        self._held: dict[str, list[dict[str, Any]]] = {}  # `rtc` messages by session
        self._connection: ClientConnection | None = None
        self._resources = ExitStack()
        self._register()
        self.connect()
        self._server = serve(
            self._serve_tab,
            "127.0.0.1",
            0,
            process_request=self._serve_file,
            compression=None,
            ping_interval=None,
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def close(self) -> None:
        """Ends all sessions and connections; a server that drains waits for the sessions."""
        for session in list(self._tabs):
            self._send("leave", sessionID=session)
        self._server.shutdown()
        self._resources.close()

    # The server's side.

    def _register(self) -> None:
        body = json.dumps({"clientID": self.client_id, "authKey": self._key}).encode()
        request = urllib.request.Request(f"{self.server_url}/register", body, method="POST")
        with urllib.request.urlopen(request, timeout=OPEN_TIMEOUT_S) as answer:
            assert answer.status == HTTPStatus.CREATED, answer.status

    def connect(self) -> None:
        """Opens the WebSocket to the server and waits for its greeting."""
        credentials = base64.b64encode(f"{self.client_id}:{self._key}".encode()).decode()
        self._connection = self._resources.enter_context(
            connect(
                f"{self.server_url.replace('http', 'ws', 1)}/ws",
                additional_headers={"Authorization": f"Basic {credentials}"},
                compression=None,
                ping_interval=None,
                open_timeout=OPEN_TIMEOUT_S,
            )
        )
        hello = self._decode(self._connection.recv(timeout=OPEN_TIMEOUT_S))
        assert hello.kind == "hello" and hello.payload["clientID"] == self.client_id, hello
        assert len(hello.payload["connID"]) == 26, hello
        self._record(hello)
        threading.Thread(target=self._read, args=[self._connection], daemon=True).start()

    def drop(self) -> None:
        """Cuts the connection to the server, as a network does."""
        assert self._connection
        connection, self._connection = self._connection, None
        connection.socket.shutdown(socket.SHUT_RDWR)

    def _read(self, connection: ClientConnection) -> None:
        try:
            for frame in connection:
                self._handle_server(self._decode(frame))
        except ConnectionClosed:
            pass

    @staticmethod
    def _decode(frame: str | bytes) -> Message:
        assert isinstance(frame, bytes), f"a text frame came: {frame!r}"
        values = msgpack.Unpacker()
        values.feed(frame)
        return Message(False, values.unpack(), values.unpack() or {})

    def _record(self, message: Message) -> None:
        with self._changed:
            self._messages.append(message)
            self._changed.notify_all()

    def _send(self, kind: str, **payload: Any) -> None:
        if connection := self._connection:
            self._record(Message(True, kind, payload))
            connection.send(msgpack.packb(kind) + msgpack.packb(payload))

    def _handle_server(self, message: Message) -> None:
        self._record(message)
        match message.kind:
            case "rtc":
                with self._changed:
                    held = self._held.get(message.session)
                    if held is not None and message.rtc_type == SDP:
                        held.append(message.payload)
                        return
                self._forward(message.session, message.payload)
            case "vad":
                event = {VOICE_ON: "user_voice_on", VOICE_OFF: "user_voice_off"}[message.rtc_type]
                self._announce(message.session, event)
            case "close":
                self._announce(message.session, "user_left")
                self._tabs.pop(message.session, None)

    def _forward(self, session: str, payload: dict[str, Any]) -> None:
        if tab := self._tabs.get(session):
            data = payload["data"].decode()
            self._tell(tab, "signal", {"data": data, "connID": session})

    # The browsers' side.

    def _serve_file(self, _: ServerConnection, request: Request) -> Response | None:
        path = request.path.split("?")[0]
        if path == "/socket":
            return None
        file = PAGES / path.removeprefix("/")
        if file.parent != PAGES or file.suffix not in FILE_TYPES or not file.exists():
            return Response(404, "Not Found", Headers({"Content-Length": "0"}), b"")
        body = file.read_bytes()
        headers = {"Content-Type": FILE_TYPES[file.suffix], "Content-Length": str(len(body))}
        return Response(200, "OK", Headers(headers), body)

    def _serve_tab(self, connection: ServerConnection) -> None:
        session = ""
        try:
            for text in connection:
                message = json.loads(text)
                action, data = message["action"], message.get("data")
                if action == "join":
                    session = new_id()
                    self._join(session, connection, data)
                elif action == "reconnect":
                    session = data["originalConnID"]
                    self._tabs[session].connection = connection
                    self._send("reconnect", sessionID=session)
                elif action == "leave":
                    self._send("leave", sessionID=session)
                else:
                    self._act(session, action, data)
        except ConnectionClosed:
            pass

    def _join(self, session: str, connection: ServerConnection, data: dict[str, Any]) -> None:
        tab = Tab(connection, data["channelID"], data["userID"])
        self._tabs[session] = tab
        self._send(
            "join",
            callID=tab.call,
            userID=tab.user,
            sessionID=session,
            channelID=tab.call,
            av1Support=data["av1Support"],
            dcSignaling=data["dcSignaling"],
        )
        people = {key: other.user for key, other in self._in_call(tab.call)}
        self._tell(tab, "join", {"connID": session, "people": people})
        self._announce(session, "user_joined")

    def _act(self, session: str, action: str, data: str | None) -> None:
        payload: dict[str, Any] = {"group_id": "", "user_id": "", "session_id": session}
        payload |= {"call_id": "", "type": RTC_TYPES[action]}
        if data is not None:
            payload["data"] = data.encode()
        self._send("rtc", **payload)
        if event := ANNOUNCED.get(action):
            self._announce(session, event)

    def _in_call(self, call: str) -> list[tuple[str, Tab]]:
        return [(key, tab) for key, tab in list(self._tabs.items()) if tab.call == call]

    def _announce(self, session: str, event: str) -> None:
        if about := self._tabs.get(session):
            for _, tab in self._in_call(about.call):
                self._tell(tab, event, {"session_id": session, "user_id": about.user})

    @staticmethod
    def _tell(tab: Tab, event: str, data: dict[str, Any]) -> None:
        try:
            tab.connection.send(json.dumps({"event": event, "data": data}))
        except ConnectionClosed:
            pass  # a tab between two connections misses what is said meanwhile

    # For tests.

    def messages(self, **wanted: Any) -> list[Message]:
        """What has passed with these attributes of `Message`."""
        with self._changed:
            passed = list(self._messages)
        return [m for m in passed if all(getattr(m, name) == v for name, v in wanted.items())]

    def wait_for(self, condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
        """Waits until what has passed fulfils `condition`, and returns what that gave."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not (found := condition()):
                left = deadline - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    last = "\n".join(str(message) for message in self._messages[-12:])
                    raise RelayError(f"{what} did not happen in {timeout_s} s; the last:\n{last}")
            return found

    def offers_to(self, session: str) -> list[Message]:
        """Offers that the server sent to a session over its WebSocket."""
        sent = self.messages(to_server=False, kind="rtc", session=session, rtc_type=SDP)
        return [message for message in sent if message.signal["type"] == "offer"]

    def hold(self, session: str) -> None:
        """Keeps back the server's descriptions for a session."""
        with self._changed:
            self._held[session] = []

    def release(self, session: str) -> None:
        """Lets go of what was kept back, and of what follows."""
        with self._changed:
            held = self._held.pop(session)
        for payload in held:
            self._forward(session, payload)
