//! Scenarios from TOML, by name or by path.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{Scenario, builtin};

impl Scenario {
    /// Reads a scenario from TOML and checks it.
    /// # Errors
    /// No TOML, an unknown or missing key, or a value out of its bounds; for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self =
            toml::from_str(text).map_err(|e| e.to_string().trim_end().to_owned())?;
        if scenario.scaled.is_some() {
            return Err("`scaled` is no key of a file: --scale shrinks a scenario".to_owned());
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Finds a scenario: what holds a `/` or ends in `.toml` is a file, all else the name of one that comes with the program.
    /// # Errors
    /// There is none, it cannot be read, or it is wrong; for people.
    pub fn find(name_or_path: &str) -> Result<Self, String> {
        if !name_or_path.contains('/') && !name_or_path.ends_with(".toml") {
            return builtin::find(name_or_path).ok_or_else(|| {
                let names: Vec<String> = builtin::all().into_iter().map(|s| s.name).collect();
                format!(
                    "there is no scenario `{name_or_path}`; those that come with the program are {}; \
                    a path with a `/` or with `.toml` at its end names a file",
                    names.join(", ")
                )
            });
        }
        let text = read(Path::new(name_or_path)).map_err(|e| format!("{name_or_path}: {e}"))?;
        Self::parse(&text).map_err(|e| format!("{name_or_path}: {e}"))
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| e.to_string())?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
    match text.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!("longer than {FILE_BYTES_MAX} bytes, so no scenario")),
        false => Ok(text),
    }
}

/// Bytes of a file.
const FILE_BYTES_MAX: u64 = 64 * 1_024;

#[cfg(test)]
mod tests {
    use super::super::{Audio, Calls, Time, Video};
    use super::*;

    const LEAST: &str = "name = \"x\"\n[calls]\ncalls = 2\nparticipants = 3\n";

    /// The error of a scenario with a few more lines.
    fn refusal(lines: &str) -> String {
        Scenario::parse(&format!("{LEAST}{lines}")).unwrap_err()
    }

    #[test]
    fn what_is_left_out_has_defaults() {
        let scenario = Scenario::parse(LEAST).unwrap();
        assert_eq!(scenario.calls, Calls { calls: 2, participants: 3, unmuted: 0, screens: 0 });
        assert_eq!(scenario.audio, Audio { rate_bps: 80_000, packets_per_second: 50 });
        assert_eq!(scenario.screen, Video::default());
        assert_eq!((scenario.mute, scenario.churn, scenario.impair), (None, None, None));
        assert_eq!(scenario.packets_out_per_second(), 0.0);
    }

    #[test]
    fn whole_numbers_do_for_seconds() {
        let scenario = Scenario::parse(&format!("{LEAST}[time]\nmeasure_s = 30\n")).unwrap();
        assert_eq!(scenario.time, Time { warmup_s: 5.0, measure_s: 30.0 });
    }

    #[test]
    fn unknown_missing_and_mistyped_keys_are_named() {
        assert!(refusal("unmutd = 1").contains("unknown field `unmutd`"));
        assert!(Scenario::parse("name = \"x\"").unwrap_err().contains("missing field `calls`"));
        let mistyped = refusal("unmuted = \"two\"");
        assert!(mistyped.contains("line 5") && mistyped.contains("two"), "{mistyped}");
        assert!(refusal("unmuted = -1").contains("-1"));
        assert!(refusal("[screen]\ncut = \"thin\"").contains("full_and_tail"));
        assert!(refusal("[scaled]\nfactor = 0.5\ncalls = 1\nparticipants = 1").contains("--scale"));
    }

    #[test]
    fn names_are_found_here_and_paths_on_disk() {
        assert_eq!(Scenario::find("smoke").unwrap().name, "smoke");
        let unknown = Scenario::find("smok").unwrap_err();
        assert!(unknown.contains("`smok`") && unknown.contains("smoke, "), "{unknown}");
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/");
        assert_eq!(Scenario::find(&format!("{folder}lossy.toml")).unwrap().name, "lossy");
        for path in ["no/such/file", "smoke.toml", folder] {
            let missing = Scenario::find(path).unwrap_err();
            assert!(missing.starts_with(&format!("{path}: ")), "{missing}");
        }
    }
}
