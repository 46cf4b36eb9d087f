//! How results are read and what is true of every good one.

use serde_json::Value;

use super::Finished;

/// A count of a result, by its path.
pub(crate) fn count(result: &Value, path: &str) -> u64 {
    let value = result.pointer(path).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{path} is no count in {result:#}"))
}

/// A number of a result, by its path.
pub(crate) fn number(result: &Value, path: &str) -> f64 {
    let value = result.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("{path} is no number in {result:#}"))
}

/// A text of a result, by its path.
pub(crate) fn text<'a>(result: &'a Value, path: &str) -> &'a str {
    let value = result.pointer(path).and_then(Value::as_str);
    value.unwrap_or_else(|| panic!("{path} is no text in {result:#}"))
}

/// It is valid and the program succeeded; or the machine had too much else to do, and then it says so, withholds figures and fails.
pub(crate) fn assert_judged(run: &Finished, result: &Value) {
    assert_eq!(result["partial"], false, "{result:#}");
    let by_packet = &result["server"]["us_per_packet_out"];
    if result["valid"] == true {
        assert_eq!(run.code, Some(0), "{}", run.errors);
        assert!(by_packet.as_f64().is_some_and(|us| us > 0.0), "{result:#}");
        return;
    }
    let why = result["problems"].to_string();
    assert!(why.contains("the generator was the bottleneck"), "{result:#}");
    assert!(run.code == Some(1) && by_packet.is_null(), "{result:#}");
}

/// Nothing was lost, damaged or ended, and what arrived was looked at.
pub(crate) fn assert_clean(result: &Value) {
    let loss = &result["loss"];
    assert!(count(loss, "/expected") > 0, "{result:#}");
    assert_eq!(count(loss, "/lost"), 0, "{result:#}");
    assert_eq!(count(loss, "/received"), count(loss, "/expected"), "{loss:#}");
    assert_eq!(count(loss, "/sessions_closed"), 0, "{result:#}");
    assert!(count(result, "/traffic/verified") > 0, "{result:#}");
    assert_eq!(count(result, "/traffic/damaged"), 0, "{result:#}");
}
