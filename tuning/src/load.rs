//! The load that is expected, as people say it: `1x1000 screen, 100x2`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// Calls of one shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Calls {
    /// How many of them run at once.
    pub calls: u32,
    /// People in each.
    pub participants: u32,
    /// Of those, how many are unmuted.
    pub unmuted: u32,
    /// Shared screens in each.
    pub screens: u32,
    /// Cameras in each.
    pub cameras: u32,
}

/// The calls that run at the same time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Load {
    /// At least one shape.
    pub shapes: Vec<Calls>,
}

/// How a load is written, for messages and help.
pub const GRAMMAR: &str = "CALLSxPEOPLE, then any of \"2u\" (unmuted in each call, 2 unless said), \"screen\" or \
     \"2 screens\", \"camera\" or \"4 cameras\"; a comma before calls of another shape: \
     \"1x1000 2u screen, 100x2\"";

const CALLS_MAX: u32 = 1_000_000;
const PARTICIPANTS_MAX: u32 = 100_000;
const PEOPLE_MAX: u64 = 10_000_000;
const SHAPES_MAX: usize = 64;
const UNMUTED: u32 = 2;

impl Load {
    /// Reads a load in the form of [`GRAMMAR`].
    ///
    /// # Errors
    /// A sentence that names the part that cannot be and shows the form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = |what: String| Err(format!("{what}. A load is written as {GRAMMAR}."));
        let text = text.to_lowercase().replace('×', "x");
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > SHAPES_MAX {
            return refuse(format!("{} shapes of calls are more than {SHAPES_MAX}", parts.len()));
        }
        let mut shapes = Vec::with_capacity(parts.len());
        for part in parts {
            match Calls::parse(part) {
                Ok(calls) => shapes.push(calls),
                Err(what) => return refuse(what),
            }
        }
        let load = Self { shapes };
        match load.people() {
            people if people > PEOPLE_MAX => {
                refuse(format!("{people} people in all are more than {PEOPLE_MAX}"))
            }
            _ => Ok(load),
        }
    }

    /// People connected at once, in all calls.
    pub fn people(&self) -> u64 {
        self.shapes.iter().map(Calls::people).sum()
    }
}

/// One call of a thousand, two of them unmuted, one screen: the row of the published table of Mattermost Calls that is quoted most.
impl Default for Load {
    fn default() -> Self {
        let shape = Calls { calls: 1, participants: 1_000, unmuted: 2, screens: 1, cameras: 0 };
        Self { shapes: vec![shape] }
    }
}

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// In the form that [`Load::parse`] reads.
impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, shape) in self.shapes.iter().enumerate() {
            write!(f, "{}{shape}", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl Calls {
    /// People in all of these calls.
    pub fn people(&self) -> u64 {
        u64::from(self.calls) * u64::from(self.participants)
    }

    /// Screens and cameras in each call.
    pub fn videos(&self) -> u64 {
        u64::from(self.screens) + u64::from(self.cameras)
    }

    fn parse(part: &str) -> Result<Self, String> {
        let mut words: Vec<&str> = part.split_whitespace().collect();
        // `1 x 1000` is the same as `1x1000`.
        let joined = words.get(..3).filter(|first| first[1] == "x").map(<[_]>::concat);
        if let Some(joined) = &joined {
            words.splice(..3, [joined.as_str()]);
        }
        let Some((size, words)) = words.split_first() else {
            return Err("A shape of calls is missing".to_owned());
        };
        let Some((calls, participants)) = size.split_once('x') else {
            return Err(format!("\"{size}\" does not say how many calls of how many people"));
        };
        let calls = count(calls, "calls", 1, CALLS_MAX)?;
        let participants = count(participants, "people in a call", 1, PARTICIPANTS_MAX)?;
        let unmuted = UNMUTED.min(participants);
        let mut shape = Self { calls, participants, unmuted, screens: 0, cameras: 0 };
        shape.read_words(words)?;
        Ok(shape)
    }

    fn read_words(&mut self, words: &[&str]) -> Result<(), String> {
        let mut number = None;
        for word in words {
            let digits = word.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, noun) = word.split_at(digits);
            if !digits.is_empty() {
                if let Some(number) = number.replace(digits) {
                    return Err(format!("\"{number}\" is followed by another number"));
                }
                if noun.is_empty() {
                    continue;
                }
            }
            let most = self.participants;
            let of = |what| count(number.unwrap_or("1"), what, 0, most);
            match noun {
                "u" | "unmuted" if number.is_some() => self.unmuted = of("unmuted people")?,
                "screen" | "screens" => self.screens = of("screens")?,
                "camera" | "cameras" => self.cameras = of("cameras")?,
                _ => return Err(format!("\"{word}\" is neither unmuted, screens nor cameras")),
            }
            number = None;
        }
        match number {
            Some(number) => Err(format!("\"{number}\" stands there without a word after it")),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} {}u", self.calls, self.participants, self.unmuted)?;
        for (number, noun) in [(self.screens, "screen"), (self.cameras, "camera")] {
            match number {
                0 => {}
                1 => write!(f, " {noun}")?,
                _ => write!(f, " {number} {noun}s")?,
            }
        }
        Ok(())
    }
}

fn count(digits: &str, what: &str, least: u32, most: u32) -> Result<u32, String> {
    let refuse = || format!("\"{digits}\" {what}: a number from {least} to {most} is needed");
    let number = Some(digits).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse().ok());
    number.filter(|number| (least..=most).contains(number)).ok_or_else(refuse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_read_and_written_in_one_form() {
        for (text, written) in [
            ("1x1000 screen", "1x1000 2u screen"),
            ("100x10 2u screen, 500x2", "100x10 2u screen, 500x2 2u"),
            ("4x100 1u 2 cameras", "4x100 1u 2 cameras"),
            ("  3 X 5   4 unmuted  2screens ", "3x5 4u 2 screens"),
            ("7×9 0u 1 camera 1 screen", "7x9 0u screen camera"),
            ("10x1", "10x1 1u"),
        ] {
            let load = Load::parse(text).unwrap();
            assert_eq!(load.to_string(), written);
            assert_eq!(Load::parse(written), Ok(load));
        }
        assert_eq!(Load::default().to_string(), "1x1000 2u screen");
        assert_eq!(Load::parse("2x3, 4x5").unwrap().people(), 26);
    }

    #[test]
    fn what_cannot_be_is_named_and_the_form_is_shown() {
        for (text, named) in [
            ("", "missing"),
            ("1x2,", "missing"),
            ("many", "\"many\""),
            ("1x", "\"\" people"),
            ("0x5", "1 to 1000000"),
            ("1000001x1", "\"1000001\" calls"),
            ("1x100001", "1 to 100000"),
            ("-1x5", "\"-1\" calls"),
            ("+1x5", "\"+1\" calls"),
            ("99999999999999x1", "\"99999999999999\""),
            ("1x10 11u", "0 to 10"),
            ("1x10 3", "without a word"),
            ("1x10 3 4u", "another number"),
            ("1x10 u", "\"u\""),
            ("1x10 2u quickly", "\"quickly\""),
            ("1000x100000", "more than 10000000"),
            ("100x100000, 1x1", "more than 10000000"),
            (&"1x1,".repeat(64), "65 shapes"),
        ] {
            let refusal = Load::parse(text).unwrap_err();
            assert!(refusal.contains(named), "{text:?}: {refusal}");
            assert!(refusal.contains(GRAMMAR), "{refusal}");
        }
    }
}
