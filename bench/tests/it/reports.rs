//! What is written for people: the floor, and reports over several results.

use std::path::Path;

use crate::support::{SMALL, Server, bench, count, number, scenario, text};

#[test]
fn results_and_a_floor_make_one_report() {
    let server = Server::start("report");
    let keys = SMALL.replace("screens = 1\n", "");
    let scenario = scenario("report", &keys);
    let run = |api: &str| {
        let name = format!("report-{api}");
        let (target, label) = (server.target(api), format!("by {api}"));
        let arguments =
            ["run", "--target", &target, "--scenario", &scenario, "--label", &label, "--json"];
        let run = bench(&name, &[&arguments[..], &["result.json", "--html", "page.html"]].concat());
        assert_page(&run.file("page.html"), run.result()["valid"] == true);
        run
    };
    let (first, second) = (run("rtcd"), run("sluice"));
    let floor = bench(
        "report-floor",
        &[
            "floor",
            "--seconds",
            "0.02",
            "--runs",
            "1",
            "--peers",
            "20",
            "--payload",
            "200",
            "--run",
            "1",
            "--device",
            "loopback",
            "--json",
            "result.json",
        ],
    );
    assert_eq!(floor.code, Some(0), "{}", floor.errors);
    let points = floor.result()["points"].clone();
    assert_eq!(points.as_array().map(Vec::len), Some(1), "{points:#}");
    assert_eq!((text(&points, "/0/device"), count(&points, "/0/payload_bytes")), ("loopback", 200));
    assert!(number(&points, "/0/ns_per_packet") > 0.0, "{points:#}");
    assert!(floor.output.contains("loopback"), "{}", floor.output);

    let paced = ["floor", "--paced", "--scenario", &scenario, "--seconds", "0.2", "--runs", "1"];
    let paced = bench("report-paced", &[&paced[..], &["--json", "result.json"]].concat());
    assert_eq!(paced.code, Some(0), "{}", paced.errors);
    let result = paced.result();
    assert_eq!(result["paced"].as_array().map(Vec::len), Some(1), "{result:#}");
    assert!(number(&result, "/paced/0/us_per_packet_out") > 0.0, "{result:#}");
    assert_eq!(number(&result, "/paced/0/run_length"), 1.0, "audio alone: {result:#}");
    assert!(paced.output.contains("by the packet out"), "{}", paced.output);

    let files = [&first, &second, &floor, &paced].map(|of| of.path("result.json"));
    let report = bench(
        "report",
        &[
            "report",
            &files[0],
            &files[1],
            &files[2],
            &files[3],
            "--markdown",
            "page.md",
            "--html",
            "page.html",
        ],
    );
    assert_eq!(report.code, Some(0), "{}", report.errors);
    let (markdown, html) = (report.file("page.md"), report.file("page.html"));
    for page in [&markdown, &html] {
        for words in ["report", "by rtcd", "by sluice", "loopback", "in its own rhythm"] {
            assert!(page.contains(words), "`{words}` lacks: {page}");
        }
    }
    let is_valid = [&first, &second].iter().any(|run| run.result()["valid"] == true);
    assert_page(&html, is_valid);
}

/// A page has plots where a run is valid, and nothing in it comes from elsewhere.
fn assert_page(html: &str, is_valid: bool) {
    assert!(html.ends_with("</html>\n"), "{html}");
    assert!(html.contains("<svg") || !is_valid, "{html}");
    for what in ["<script", "<link", "<img", "<iframe", "@import", "url("] {
        assert!(!html.contains(what), "`{what}` in {html}");
    }
    // An address may stand in the text, such as that of the server in the command line, but not where a browser would fetch it.
    for attribute in ["src=", "href=", "action=", "data="] {
        for (at, _) in html.match_indices(attribute) {
            let value = html[at + attribute.len()..].trim_start_matches(['"', '\'']);
            assert!(value.starts_with('#'), "{}", value.lines().next().unwrap_or_default());
        }
    }
}

#[test]
fn a_file_that_is_no_result_is_refused_by_its_name() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let report = bench("report-wrong", &["report", &manifest.to_string_lossy()]);
    assert_eq!(report.code, Some(1));
    assert!(report.errors.contains("Cargo.toml: "), "{}", report.errors);
}
