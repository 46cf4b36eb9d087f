//! Logs with levels: to standard output, to a file, or both.

use std::fs::OpenOptions;
use std::io::IsTerminal as _;
use std::sync::Mutex;

use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogSink, LoggerConfig};

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
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.map_err(|error| format!("logger.file_location {path}: {error}"))?;
        layers.push(layer(sink, Mutex::new(file), false));
    }
    tracing_subscriber::registry()
        .with(layers)
        .try_init()
        .map_err(|error| format!("logging was started before: {error}"))
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
