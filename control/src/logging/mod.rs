//! Logs with levels: to standard output, to a file, or both.

pub mod file;

use std::io::IsTerminal as _;
use std::path::Path;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogSink, LoggerConfig};
use file::{FILE_BYTES_MAX, LogFile, OLD_FILES_MAX};

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging as configured, for the whole process.
///
/// # Errors
/// The log file that could not be opened, or a second call.
pub fn start(config: &LoggerConfig) -> Result<(), String> {
    let mut layers: Vec<BoxedLayer> = Vec::new();
    if let Some(sink) = &config.console {
        let color = config.color && std::io::stdout().is_terminal();
        layers.push(layer(sink, std::io::stdout, color));
    }
    if let Some((sink, path)) = &config.file {
        let file = LogFile::open(Path::new(path), FILE_BYTES_MAX, OLD_FILES_MAX);
        let file = file.map_err(|error| format!("logger.file_location {path}: {error}"))?;
        layers.push(layer(sink, file, false));
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| format!("logging was started before: {error}"))
}

/// Leaves out a file that cannot be written, and says so: for one that nobody asked for, in a
/// container's read-only directory for instance.
pub fn skip_unwritable_file(config: &mut LoggerConfig) -> Option<String> {
    let (_, path) = config.file.as_ref()?;
    let error = LogFile::open(Path::new(path), FILE_BYTES_MAX, OLD_FILES_MAX).err()?;
    let notice = format!("no log file is written: logger.file_location {path}: {error}");
    config.console.as_ref()?;
    config.file = None;
    Some(notice)
}

fn layer<W>(sink: &LogSink, writer: W, color: bool) -> BoxedLayer
where
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(color).with_writer(writer);
    if sink.json {
        layer.json().with_filter(sink.level).boxed()
    } else {
        layer.with_filter(sink.level).boxed()
    }
}
