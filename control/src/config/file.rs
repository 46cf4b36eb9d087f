//! Reads the TOML file, with the line of each value.

use toml::de::{DeTable, DeValue};

use super::keys::Key;
use super::value::Value;
use super::{Origin, Refusal, Settings};

impl Settings {
    /// Applies a TOML file's `text`; `name` is what messages call it.
    ///
    /// Unknown keys are ignored, as in rtcd, with a notice that names the nearest known one.
    ///
    /// # Errors
    /// Text that is no TOML, or the first value that cannot work.
    pub fn apply_file(&mut self, name: &str, text: &str) -> Result<(), Refusal> {
        let root = DeTable::parse(text).map_err(|error| {
            let line = line_of(text, error.span().map_or(0, |s| s.start));
            Refusal {
                key: "",
                origin: Origin::File(name.to_owned(), line),
                value: String::new(),
                message: format!("this is no TOML: {}", error.message()),
            }
        })?;
        self.apply_table(name, text, "", root.get_ref())
    }

    fn apply_table(
        &mut self,
        name: &str,
        text: &str,
        prefix: &str,
        table: &DeTable<'_>,
    ) -> Result<(), Refusal> {
        for (part, value) in table.iter() {
            let path = match prefix {
                "" => part.get_ref().to_string(),
                _ => format!("{prefix}.{}", part.get_ref()),
            };
            let line = line_of(text, part.span().start);
            match (Key::find(&path), value.get_ref()) {
                (Some(key), value) => {
                    let shown = shown(value);
                    let origin = Origin::File(name.to_owned(), line);
                    self.set(key, Value::from_toml(key.kind, value), &shown, origin)?;
                }
                (None, DeValue::Table(inner)) => self.apply_table(name, text, &path, inner)?,
                (None, _) => {
                    let hint = Key::nearest(&path)
                        .map(|known| format!("; did you mean {known}?"))
                        .unwrap_or_default();
                    self.notices
                        .push(format!("{name}:{line}: unknown key {path:?} is ignored{hint}"));
                }
            }
        }
        Ok(())
    }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(n) => n.as_str().to_owned(),
        DeValue::Boolean(b) => b.to_string(),
        other => other.type_str().to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|b| *b == b'\n').count()
}
