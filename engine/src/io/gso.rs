//! The send path of both back-ends: runs of datagrams with UDP_SEGMENT, batched by sendmmsg; TCP goes to its connections.
//!
//! One run costs the kernel about what one datagram costs. The refusals that are known: devices without checksum offload and
//! some virtio versions answer EIO or EINVAL, so offload ends for that path, and only that path, at the first of them.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, RawFd};

use super::address::RawAddress;
use super::path::{PathTable, Target, UdpTarget};
use super::tcp::Tcp;
use crate::drop_reason::DropReason;
use crate::egress::{Egress, RUN_SEGMENTS_MAX, Sent, run_length};
use crate::route::PathId;

/// Sends what an [`Egress`] holds.
pub(super) struct Sender {
    /// One per datagram of this flush, pointing into the egress.
    iovecs: Vec<libc::iovec>,
    /// Runs of this flush by local socket.
    queues: Vec<Vec<Run>>,
    headers: Vec<libc::mmsghdr>,
    /// One for each header whose run lies in one piece.
    spans: Vec<libc::iovec>,
    names: Vec<RawAddress>,
    controls: Vec<SegmentControl>,
    equal_runs: bool,
}

/// What became of the datagrams of one flush.
#[derive(Default)]
pub(super) struct Tally {
    /// The kernel has them.
    pub(super) sent: Sent,
    /// The kernel did not take them, or their path is gone.
    pub(super) refused: u64,
    /// Their TCP connection had no room.
    pub(super) backlog: u64,
}

/// Consecutive datagrams that one send carries.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    path: PathId,
    target: UdpTarget,
}

/// The control message that carries the segment size.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct SegmentControl([u8; SegmentControl::SIZE]);

impl SegmentControl {
    // SAFETY: CMSG_SPACE is arithmetic.
    const SIZE: usize = unsafe { libc::CMSG_SPACE(size_of::<u16>() as u32) } as usize;
}

/// Messages per sendmmsg. The kernel gains nothing beyond; what a full socket buffer costs is one batch.
const BATCH_MESSAGES_MAX: usize = 64;

const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

impl Sender {
    /// Makes the send path for `sockets` UDP sockets.
    pub(super) fn new(sockets: usize) -> Self {
        // SAFETY: an `mmsghdr` is integers and pointers, for which zeros are valid.
        let header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        Self {
            iovecs: Vec::new(),
            queues: vec![Vec::new(); sockets],
            headers: vec![header; BATCH_MESSAGES_MAX],
            spans: vec![span(&[]); BATCH_MESSAGES_MAX],
            names: vec![RawAddress::EMPTY; BATCH_MESSAGES_MAX],
            controls: vec![SegmentControl([0; SegmentControl::SIZE]); BATCH_MESSAGES_MAX],
            equal_runs: kernel_version().is_none_or(takes_equal_runs),
        }
    }

    /// Sends and empties `egress`, and forgets the paths that were closed before.
    pub(super) fn flush(
        &mut self,
        egress: &mut Egress,
        paths: &mut PathTable,
        sockets: &[UdpSocket],
        tcp: &mut Tcp,
    ) {
        let mut tally = Tally::default();
        for &path in egress.paths() {
            match paths.target(path) {
                Some(&Target::Udp(target)) => self.queue(egress, path, target),
                Some(&Target::Tcp(number)) => {
                    tcp.send(number, egress.datagrams(path), &mut tally);
                }
                Some(Target::Nowhere) | None => {
                    tally.refused += egress.datagrams(path).count() as u64;
                }
            }
        }
        for (local, socket) in sockets.iter().enumerate() {
            let queue = std::mem::take(&mut self.queues[local]);
            for batch in queue.chunks(BATCH_MESSAGES_MAX) {
                self.send_batch(batch, socket.as_raw_fd(), paths, &mut tally);
            }
            self.queues[local] = queue;
            self.queues[local].clear();
        }
        self.iovecs.clear();
        paths.retire_closed();
        tcp.close_unused();

        egress.sent.datagrams += tally.sent.datagrams;
        egress.sent.bytes += tally.sent.bytes;
        egress.sent.runs += tally.sent.runs;
        egress.drops.add(DropReason::SendRefused, tally.refused);
        egress.drops.add(DropReason::TcpBacklog, tally.backlog);
        egress.clear();
    }

    /// Cuts the datagrams of one path into runs.
    fn queue(&mut self, egress: &Egress, path: PathId, target: UdpTarget) {
        let mut first = self.iovecs.len();
        self.iovecs.extend(egress.datagrams(path).map(span));
        let queue = &mut self.queues[usize::from(target.local)];
        while first < self.iovecs.len() {
            let rest = &self.iovecs[first..];
            let count = match rest[0].iov_len {
                // Segments of nothing are no segments.
                0 => 1,
                _ if !target.offload => 1,
                _ => run_length(rest.iter().take(RUN_SEGMENTS_MAX).map(|iovec| iovec.iov_len)),
            };
            let all_equal = rest[count - 1].iov_len == rest[0].iov_len;
            let count = if all_equal && !self.equal_runs { 1 } else { count };
            queue.push(Run { first, count, path, target });
            first += count;
        }
    }

    /// Sends up to [`BATCH_MESSAGES_MAX`] runs on one socket.
    fn send_batch(&mut self, runs: &[Run], fd: RawFd, paths: &mut PathTable, tally: &mut Tally) {
        for (index, run) in runs.iter().enumerate() {
            self.fill(index, run);
        }
        let mut at = 0;
        while at < runs.len() {
            // SAFETY: the headers from `at` on were filled above; names, controls, spans and iovecs they point to belong to `self`,
            // the payload to the egress that `flush` borrows, and none of them moves before this function ends.
            let taken = unsafe {
                let headers = self.headers.as_mut_ptr().add(at);
                libc::sendmmsg(fd, headers, (runs.len() - at) as libc::c_uint, SEND_FLAGS)
            };
            if let Ok(taken @ 1..) = usize::try_from(taken) {
                for run in &runs[at..at + taken] {
                    tally.count_sent(&self.iovecs[run.first..run.first + run.count]);
                }
                at += taken;
                continue;
            }
            let run = runs[at];
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            match errno {
                libc::EINTR => continue,
                // The socket's buffer or the device's queue is full. Waiting would hold up every other session.
                libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => {
                    tally.refused += runs[at..].iter().map(|run| run.count as u64).sum::<u64>();
                    return;
                }
                libc::EIO | libc::EINVAL if run.count > 1 => {
                    paths.disable_offload(run.path);
                    self.send_singly(&run, fd, tally);
                }
                // Segments beyond the MTU; a shorter last one may pass.
                libc::EMSGSIZE if run.count > 1 => self.send_singly(&run, fd, tally),
                _ => tally.refused += run.count as u64,
            }
            at += 1;
        }
    }

    /// Makes header `index` describe `run`.
    fn fill(&mut self, index: usize, run: &Run) {
        self.names[index] = run.target.address;
        let header = &mut self.headers[index].msg_hdr;
        header.msg_name = (&raw mut self.names[index]).cast();
        header.msg_namelen = run.target.address_len;
        let iovecs = &mut self.iovecs[run.first..run.first + run.count];
        // Datagrams that were written one after the other lie one after the other: one piece costs the kernel less than many.
        match whole(iovecs) {
            Some(span) => {
                self.spans[index] = span;
                (header.msg_iov, header.msg_iovlen) = (&raw mut self.spans[index], 1);
            }
            None => (header.msg_iov, header.msg_iovlen) = (iovecs.as_mut_ptr(), run.count as _),
        }
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        // PPPoE paths were seen to break on segment offload of a single datagram.
        if run.count > 1 {
            let segment = self.iovecs[run.first].iov_len as u16;
            header.msg_control = (&raw mut self.controls[index]).cast();
            header.msg_controllen = SegmentControl::SIZE as _;
            // SAFETY: the control room is aligned and has exactly CMSG_SPACE of a u16.
            unsafe {
                let cmsg = libc::CMSG_FIRSTHDR(header);
                (*cmsg).cmsg_level = libc::SOL_UDP;
                (*cmsg).cmsg_type = libc::UDP_SEGMENT;
                (*cmsg).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as _;
                libc::CMSG_DATA(cmsg).cast::<u16>().write_unaligned(segment);
            }
        }
    }

    /// Sends the datagrams of one run one by one.
    fn send_singly(&self, run: &Run, fd: RawFd, tally: &mut Tally) {
        for iovec in &self.iovecs[run.first..run.first + run.count] {
            let name = (&raw const run.target.address).cast();
            // SAFETY: the iovec describes bytes of the egress that `flush` borrows; the name lives in `run`.
            let sent = unsafe {
                libc::sendto(
                    fd,
                    iovec.iov_base,
                    iovec.iov_len,
                    SEND_FLAGS,
                    name,
                    run.target.address_len,
                )
            };
            match sent {
                0.. => tally.count_sent(std::slice::from_ref(iovec)),
                _ => tally.refused += 1,
            }
        }
    }
}

/// What the kernel is told of bytes to send.
fn span(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

/// The datagrams of a run as one piece of memory, if they are one: all are as long as the first but the last, and later ones lie at
/// higher addresses, so that there is no gap when the ends are as far apart as all are long.
fn whole(run: &[libc::iovec]) -> Option<libc::iovec> {
    let (first, last) = (run.first()?, run.last()?);
    let bytes = (run.len() - 1) * first.iov_len + last.iov_len;
    let ends_at = (last.iov_base as usize).checked_add(last.iov_len)?;
    let is_whole = ends_at.checked_sub(first.iov_base as usize) == Some(bytes);
    is_whole.then_some(libc::iovec { iov_base: first.iov_base, iov_len: bytes })
}

impl Tally {
    fn count_sent(&mut self, run: &[libc::iovec]) {
        self.sent.datagrams += run.len() as u64;
        self.sent.bytes += run.iter().map(|iovec| iovec.iov_len as u64).sum::<u64>();
        self.sent.runs += 1;
    }
}

/// Whether the kernel sends runs of all-equal length rightly: 7.0 to 7.1.4 mangle their headers.
fn takes_equal_runs(version: [u32; 3]) -> bool {
    !([7, 0, 0]..=[7, 1, 4]).contains(&version)
}

fn kernel_version() -> Option<[u32; 3]> {
    parse_version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// Major, minor and patch of a release like `6.18.44-generic`; parts that are missing are zero.
fn parse_version(release: &str) -> Option<[u32; 3]> {
    let numbers = release.trim().split(|c: char| !c.is_ascii_digit()).take(3);
    let mut version = [0; 3];
    for (part, number) in version.iter_mut().zip(numbers) {
        match number.parse() {
            Ok(number) => *part = number,
            Err(_) => break,
        }
    }
    (version[0] > 0).then_some(version)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::io::tcp::TcpLimits;
    use crate::route::{Route, Transport};

    struct Pair {
        sender: Sender,
        paths: PathTable,
        sockets: [UdpSocket; 1],
        tcp: Tcp,
        peer: UdpSocket,
        path: PathId,
        egress: Egress,
    }

    fn pair() -> Pair {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut paths = PathTable::default();
        let remote = peer.local_addr().unwrap();
        let path = paths.open(Route { transport: Transport::Udp, local: 0, remote }, 1);
        let sockets = [UdpSocket::bind("127.0.0.1:0").unwrap()];
        let tcp = Tcp::new(Vec::new(), TcpLimits::default()).unwrap();
        let egress = Egress::new(128, 1 << 17);
        Pair { sender: Sender::new(1), paths, sockets, tcp, peer, path, egress }
    }

    impl Pair {
        fn flush(&mut self) {
            self.sender.flush(&mut self.egress, &mut self.paths, &self.sockets, &mut self.tcp);
        }

        fn sizes(&self, count: usize) -> Vec<usize> {
            let mut buffer = [0; 2048];
            (0..count).map(|_| self.peer.recv(&mut buffer).unwrap()).collect()
        }
    }

    fn refuse_offload(socket: &UdpSocket) {
        // Segment offload without a checksum is EINVAL.
        let on: libc::c_int = 1;
        // SAFETY: the option is a readable int.
        let result = unsafe {
            let (level, name) = (libc::SOL_SOCKET, libc::SO_NO_CHECK);
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), 4)
        };
        assert_eq!(result, 0);
    }

    #[test]
    fn a_refused_run_goes_out_singly_and_offload_ends_for_the_path_alone() {
        let mut pair = pair();
        let other =
            Route { transport: Transport::Udp, local: 0, remote: pair.peer.local_addr().unwrap() };
        let other = pair.paths.open(other, 1);
        refuse_offload(&pair.sockets[0]);
        for _ in 0..2 {
            for size in [500, 500, 300] {
                pair.egress.push(pair.path, &[7; 1200][..size]);
            }
            pair.flush();
            assert_eq!(pair.sizes(3), [500, 500, 300]);
        }
        assert_eq!(pair.egress.sent, Sent { datagrams: 6, bytes: 2600, runs: 6 });
        assert_eq!(pair.egress.drops.of(DropReason::SendRefused), 0);
        let offload = |path| match pair.paths.target(path) {
            Some(Target::Udp(target)) => target.offload,
            _ => panic!("the path is open"),
        };
        assert!(!offload(pair.path));
        assert!(offload(other));
    }

    #[test]
    fn equal_runs_are_avoided_where_the_kernel_mangles_them() {
        let mut pair = pair();
        pair.sender.equal_runs = false;
        for size in [100, 100, 100, 60] {
            pair.egress.push(pair.path, &[7; 100][..size]);
        }
        pair.flush();
        assert_eq!(pair.egress.sent.runs, 1, "a shorter tail is safe");
        for _ in 0..3 {
            pair.egress.push(pair.path, &[7; 100]);
        }
        pair.flush();
        assert_eq!(pair.egress.sent.runs, 4);
        assert_eq!(pair.sizes(7), [100, 100, 100, 60, 100, 100, 100]);
    }

    #[test]
    fn datagrams_for_a_retired_path_are_counted_and_not_sent() {
        let mut pair = pair();
        pair.paths.close(pair.path);
        pair.egress.push(pair.path, b"goodbye");
        pair.flush();
        pair.egress.push(pair.path, b"too late");
        pair.flush();
        assert_eq!(pair.sizes(1), [7]);
        assert_eq!(pair.egress.sent.datagrams, 1);
        assert_eq!(pair.egress.drops.of(DropReason::SendRefused), 1);
    }

    #[test]
    fn runs_in_one_piece_and_in_many_arrive_whole() {
        for between in [0, 1, 7] {
            let mut pair = pair();
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            let remote = other.local_addr().unwrap();
            let route = Route { transport: Transport::Udp, local: 0, remote };
            let aside = pair.paths.open(route, 1);
            for number in 0..5 {
                pair.egress.push(pair.path, &[number; 100]);
                pair.egress.push(aside, &[0xFF; 100][..between]);
            }
            pair.egress.push(pair.path, &[5; 60]);
            pair.flush();
            let mut buffer = [0; 2048];
            for number in 0..6 {
                let len = pair.peer.recv(&mut buffer).unwrap();
                assert_eq!(len, if number < 5 { 100 } else { 60 });
                assert!(buffer[..len].iter().all(|&b| b == number), "{number}, {between} between");
            }
        }
    }

    #[test]
    fn only_what_lies_without_gaps_is_one_piece() {
        let memory = [0; 1000];
        let run = |starts: &[(usize, usize)]| {
            let spans: Vec<_> =
                starts.iter().map(|&(at, len)| span(&memory[at..at + len])).collect();
            whole(&spans).map(|span| span.iov_len)
        };
        assert_eq!(run(&[(0, 100), (100, 100), (200, 50)]), Some(250));
        assert_eq!(run(&[(40, 70)]), Some(70));
        assert_eq!(run(&[(0, 100), (101, 100)]), None);
        assert_eq!(run(&[(0, 100), (100, 100), (300, 100)]), None);
        assert_eq!(run(&[]), None);
    }

    #[test]
    fn empty_datagrams_are_sent_one_by_one() {
        let mut pair = pair();
        for _ in 0..3 {
            pair.egress.push(pair.path, b"");
        }
        pair.flush();
        assert_eq!(pair.sizes(3), [0, 0, 0]);
    }

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(parse_version("6.18.44-fc-v1\n"), Some([6, 18, 44]));
        assert_eq!(parse_version("7.0-rc3"), Some([7, 0, 0]));
        assert_eq!(parse_version("5.10"), Some([5, 10, 0]));
        assert_eq!(parse_version("what"), None);
        assert!(takes_equal_runs([6, 18, 44]) && takes_equal_runs([7, 1, 5]));
        assert!(!takes_equal_runs([7, 0, 0]) && !takes_equal_runs([7, 1, 4]));
    }
}
