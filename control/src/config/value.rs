//! Values of settings, and how each source spells them.

use toml::de::DeValue;

/// What a key may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int,
    /// A string, or in TOML a whole number.
    TextOrInt,
    /// STUN and TURN servers.
    IceServers,
}

impl Kind {
    /// The type as documentation names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::TextOrInt => "string or int",
            Self::IceServers => "list",
        }
    }
}

/// A setting's value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Of [`Kind::Text`] or [`Kind::TextOrInt`].
    Text(String),
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`] or [`Kind::TextOrInt`].
    Int(i64),
    /// Of [`Kind::IceServers`].
    IceServers(Vec<IceServer>),
}

/// One STUN or TURN server as clients are told of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Deserialize)]
pub struct IceServer {
    /// `stun:`, `stuns:`, `turn:` or `turns:` URLs, all of one kind.
    pub urls: Vec<String>,
    /// TURN user name.
    #[serde(default)]
    pub username: String,
    /// TURN password.
    #[serde(default)]
    pub credential: String,
}

impl Value {
    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// Reads a TOML value.
    ///
    /// # Errors
    /// What would be right.
    pub fn from_toml(kind: Kind, value: &DeValue<'_>) -> Result<Self, String> {
        let number = || {
            let n = value.as_integer()?;
            i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok()
        };
        let found = match kind {
            Kind::Text => value.as_str().map(|s| Self::Text(s.to_owned())),
            Kind::Bool => value.as_bool().map(Self::Bool),
            Kind::Int => number().map(Self::Int),
            Kind::TextOrInt => {
                value.as_str().map(|s| Self::Text(s.to_owned())).or_else(|| number().map(Self::Int))
            }
            Kind::IceServers => return ice_servers_from_toml(value),
        };
        found.ok_or_else(|| format!("should be of type {}, not {}", kind.name(), value.type_str()))
    }

    /// Reads the text of an environment variable or a flag.
    ///
    /// # Errors
    /// What would be right.
    pub fn from_text(kind: Kind, text: &str) -> Result<Self, String> {
        match kind {
            Kind::Text | Kind::TextOrInt => Ok(Self::Text(text.to_owned())),
            Kind::Bool => match text {
                "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(Self::Bool(true)),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(Self::Bool(false)),
                _ => Err("should be true or false".to_owned()),
            },
            Kind::Int => {
                parse_int(text).map(Self::Int).ok_or_else(|| "should be a whole number".to_owned())
            }
            Kind::IceServers => ice_servers_from_json(text),
        }
    }
}

/// Decimal, or with the prefixes 0x, 0o, 0 and 0b, as rtcd reads its environment.
fn parse_int(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let n = i64::from_str_radix(digits, radix).ok()?;
    Some(if negative { -n } else { n })
}

const ICE_SERVERS_FORM: &str =
    "should be a list of URLs, or of tables with urls, username and credential";

fn ice_servers_from_toml(value: &DeValue<'_>) -> Result<Value, String> {
    let bad = || ICE_SERVERS_FORM.to_owned();
    let text = |value: &DeValue<'_>| value.as_str().map(str::to_owned).ok_or_else(bad);
    let mut servers = Vec::new();
    for entry in value.as_array().ok_or_else(bad)?.iter() {
        let entry = entry.get_ref();
        if let Some(url) = entry.as_str() {
            servers.push(IceServer { urls: vec![url.to_owned()], ..IceServer::default() });
            continue;
        }
        let mut server = IceServer::default();
        for (name, value) in entry.as_table().ok_or_else(bad)?.iter() {
            let value = value.get_ref();
            match name.get_ref().to_ascii_lowercase().as_str() {
                "urls" => {
                    let urls = value.as_array().ok_or_else(bad)?;
                    server.urls =
                        urls.iter().map(|u| text(u.get_ref())).collect::<Result<_, _>>()?;
                }
                "username" => server.username = text(value)?,
                "credential" => server.credential = text(value)?,
                _ => {}
            }
        }
        servers.push(server);
    }
    Ok(Value::IceServers(servers))
}

/// A list of strings is one server here, unlike in TOML: rtcd does it so.
fn ice_servers_from_json(text: &str) -> Result<Value, String> {
    if let Ok(urls) = serde_json::from_str::<Vec<String>>(text) {
        let server = IceServer { urls, ..IceServer::default() };
        return Ok(Value::IceServers(if server.urls.is_empty() { vec![] } else { vec![server] }));
    }
    serde_json::from_str::<Vec<IceServer>>(text)
        .map(Value::IceServers)
        .map_err(|_| format!("{ICE_SERVERS_FORM}, in JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_rtcd_reads_them() {
        for (text, n) in [("8443", 8443), ("0x20", 32), ("010", 8), ("0b11", 3), ("-5", -5)] {
            assert_eq!(Value::from_text(Kind::Int, text), Ok(Value::Int(n)), "{text}");
        }
        for text in ["", " 1", "1s", "0x", "--1", "-+1", "99999999999999999999"] {
            assert!(Value::from_text(Kind::Int, text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn booleans_are_the_twelve_spellings_and_no_others() {
        for text in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(Value::from_text(Kind::Bool, text), Ok(Value::Bool(true)));
        }
        for text in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(Value::from_text(Kind::Bool, text), Ok(Value::Bool(false)));
        }
        for text in ["", "yes", "tRUE", "on"] {
            assert!(Value::from_text(Kind::Bool, text).is_err());
        }
    }
}
