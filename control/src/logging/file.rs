//! The log file: rotated at a size, old ones compressed, and no reason to stop the server.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;
use tracing_subscriber::fmt::MakeWriter;

/// Where a file is moved away; rtcd has the same bound.
pub const FILE_BYTES_MAX: u64 = 100 << 20;

/// Compressed files kept; the oldest is removed when one more comes.
pub const OLD_FILES_MAX: usize = 10;

/// Lines that could not be written, for the whole process.
static LINES_LOST: AtomicU64 = AtomicU64::new(0);

/// Log lines that could not be written to a file since the start.
pub fn lines_lost() -> u64 {
    LINES_LOST.load(Ordering::Relaxed)
}

/// A log file that any thread writes to, a line at a time.
///
/// At its size bound it is renamed to `<path>.1`, and that is compressed to `<path>.1.gz` by a
/// thread of its own; older ones move on to `.2.gz` and so forth. Until a compression is done the
/// file is left to grow. When it cannot be written (a full disk, a directory that is gone), lines
/// are counted and dropped, standard error says so once, and each further line opens it again.
#[derive(Clone, Debug)]
pub struct LogFile {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    path: PathBuf,
    bytes_max: u64,
    old_files_max: usize,
    /// `None` after a failure.
    file: Option<File>,
    bytes: u64,
    /// Lines lost in the failure that lasts.
    lost: u64,
    compression: Option<JoinHandle<()>>,
    /// Whether the last attempt to rotate failed, which was said.
    stuck: bool,
}

impl LogFile {
    /// Opens or makes the file at `path`, to append to it.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(path: &Path, bytes_max: u64, old_files_max: usize) -> io::Result<Self> {
        let (file, bytes) = open(path)?;
        let state = State {
            path: path.to_owned(),
            bytes_max,
            old_files_max,
            file: Some(file),
            bytes,
            lost: 0,
            compression: None,
            stuck: false,
        };
        Ok(Self { state: Arc::new(Mutex::new(state)) })
    }
}

impl Write for &LogFile {
    /// Takes one whole line, and says that it was written in any case: a caller that logs can do
    /// nothing about it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).write_line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = &'a LogFile;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

impl State {
    fn write_line(&mut self, line: &[u8]) {
        let length = line.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bytes_max {
            self.rotate();
        }
        let written = self.opened().and_then(|file| file.write_all(line));
        match written {
            Ok(()) => {
                self.bytes += length;
                if self.lost > 0 {
                    self.say(&format!("is written again; {} lines are missing in it", self.lost));
                    self.lost = 0;
                }
            }
            Err(error) => {
                self.file = None;
                if self.lost == 0 {
                    self.say(&format!(
                        "cannot be written: {error}; its lines are lost until it can"
                    ));
                }
                self.lost += 1;
                LINES_LOST.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The log cannot report on itself.
    fn say(&self, message: &str) {
        eprintln!("sluice: the log file {} {message}", self.path.display());
    }

    fn opened(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let (file, bytes) = open(&self.path)?;
            self.bytes = bytes;
            return Ok(self.file.insert(file));
        }
        self.file.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rotate(&mut self) {
        if self.compression.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.file = None;
        let newest = numbered(&self.path, 1, "");
        let moved =
            shift(&self.path, self.old_files_max).and_then(|()| fs::rename(&self.path, &newest));
        if let Err(error) = moved {
            // It grows on: nothing is lost, and the next line tries again.
            if error.kind() != io::ErrorKind::NotFound && !self.stuck {
                self.say(&format!("cannot be rotated: {error}"));
                self.stuck = true;
            }
            return;
        }
        self.stuck = false;
        let thread = std::thread::Builder::new().name("log-gzip".to_owned());
        self.compression = thread.spawn(move || compress(&newest)).ok();
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn numbered(path: &Path, number: usize, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{suffix}"));
    PathBuf::from(name)
}

/// Gives every old file the next number, compressed or (after a crash) not; the last goes.
fn shift(path: &Path, old_files_max: usize) -> io::Result<()> {
    for suffix in ["", ".gz"] {
        ignore_missing(fs::remove_file(numbered(path, old_files_max, suffix)))?;
        for number in (1..old_files_max).rev() {
            let next = numbered(path, number + 1, suffix);
            ignore_missing(fs::rename(numbered(path, number, suffix), next))?;
        }
    }
    Ok(())
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Compresses `path` to `path.gz`, which appears when it is whole. On failure the file stays as it is.
fn compress(path: &Path) {
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let part = with_suffix(".gz.part");
    let compressed = (|| {
        let mut encoder = GzEncoder::new(File::create(&part)?, Compression::default());
        io::copy(&mut File::open(path)?, &mut encoder)?;
        encoder.finish()?.sync_all()?;
        fs::rename(&part, with_suffix(".gz"))?;
        fs::remove_file(path)
    })();
    if let Err(error) = compressed {
        let _ = fs::remove_file(&part);
        eprintln!("sluice: the old log file {} was not compressed: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    /// An empty folder of this test's own.
    fn folder(name: &str) -> PathBuf {
        let unique = format!("sluice-log-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the temporary directory is writable");
        folder
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("it is there");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn write(log: &LogFile, line: &str) {
        let mut writer = log.make_writer();
        writer.write_all(line.as_bytes()).expect("it never fails");
    }

    fn wait_for_compression(log: &LogFile) {
        let thread = log.state.lock().expect("whole").compression.take();
        thread.expect("it was rotated").join().expect("it ends well");
    }

    fn unpacked(path: &Path) -> String {
        let mut text = String::new();
        let file = File::open(path).expect("it is there");
        GzDecoder::new(file).read_to_string(&mut text).expect("whole");
        text
    }

    #[test]
    fn full_files_are_compressed_and_the_oldest_goes() {
        let folder = folder("rotate");
        let path = folder.join("rtcd.log");
        fs::write(&path, "from an earlier run\n").expect("writable");
        let log = LogFile::open(&path, 31, 2).expect("writable");
        for line in ["first line\n", "second line, which fills\n", "third line, which fills\n"] {
            write(&log, line);
            if line.ends_with("which fills\n") {
                wait_for_compression(&log);
            }
        }
        assert_eq!(files(&folder), ["rtcd.log", "rtcd.log.1.gz", "rtcd.log.2.gz"]);
        let old = unpacked(&folder.join("rtcd.log.2.gz"));
        assert_eq!(old, "from an earlier run\nfirst line\n");
        assert_eq!(unpacked(&folder.join("rtcd.log.1.gz")), "second line, which fills\n");
        write(&log, "fourth line, which fills\n");
        wait_for_compression(&log);
        assert_eq!(files(&folder), ["rtcd.log", "rtcd.log.1.gz", "rtcd.log.2.gz"]);
        assert_eq!(unpacked(&folder.join("rtcd.log.2.gz")), "second line, which fills\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "fourth line, which fills\n");
        fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn lines_are_counted_while_the_file_cannot_be_written_and_it_is_opened_again() {
        let folder = folder("reopen");
        let path = folder.join("sub").join("rtcd.log");
        LogFile::open(&path, 1_000, 2).expect_err("the directory is missing");
        fs::create_dir(folder.join("sub")).expect("ours");
        // Full from the first byte on, so that the next line needs a file that cannot be made.
        let log = LogFile::open(&path, 1, 2).expect("writable");
        write(&log, "kept\n");
        fs::remove_dir_all(folder.join("sub")).expect("ours");
        let before = lines_lost();
        write(&log, "lost\n");
        write(&log, "lost too\n");
        assert_eq!(log.state.lock().expect("whole").lost, 2);
        assert!(lines_lost() >= before + 2);
        fs::create_dir(folder.join("sub")).expect("ours");
        write(&log, "back\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "back\n");
        assert_eq!(log.state.lock().expect("whole").lost, 0);
        fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn a_full_disk_drops_lines_and_nothing_else() {
        // The kernel's own full disk.
        let Ok(log) = LogFile::open(Path::new("/dev/full"), 1_000, 2) else { return };
        write(&log, "nowhere to go\n");
        assert_eq!(log.state.lock().expect("whole").lost, 1);
    }

    #[test]
    fn a_running_compression_lets_the_file_grow() {
        let folder = folder("busy");
        let path = folder.join("rtcd.log");
        let log = LogFile::open(&path, 10, 2).expect("writable");
        let (let_go, wait) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::spawn(move || {
            let _ = wait.recv();
        });
        log.state.lock().expect("whole").compression = Some(busy);
        write(&log, "one line too long\n");
        write(&log, "another\n");
        assert_eq!(files(&folder), ["rtcd.log"]);
        drop(let_go);
        wait_for_compression(&log);
        write(&log, "third\n");
        wait_for_compression(&log);
        assert_eq!(files(&folder), ["rtcd.log", "rtcd.log.1.gz"]);
        assert_eq!(unpacked(&folder.join("rtcd.log.1.gz")), "one line too long\nanother\n");
        fs::remove_dir_all(folder).expect("ours");
    }
}
