//! `report` and `scenarios`: commands that only read and print.

use crate::scenario;

/// Lists scenarios, or prints one.
pub fn scenarios(name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) => println!(
            "{}",
            toml::to_string_pretty(&scenario::Scenario::find(name)?).map_err(|e| e.to_string())?
        ),
        None => println!("{}", scenario::builtin::listing()),
    }
    Ok(())
}
