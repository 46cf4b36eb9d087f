//! A client that speaks just enough JSEP to negotiate with us: offers its transceivers, answers our offers.

use std::fmt::Write as _;

use super::{attribute, check_ours, credentials, sections};

/// One transceiver with its m= section.
#[derive(Clone, Debug)]
pub(crate) struct Transceiver {
    pub(crate) mid: String,
    pub(crate) media: String,
    pub(crate) stopped: bool,
    pub(crate) send: bool,
    pub(crate) recv: bool,
    /// SSRC of what it sends.
    pub(crate) ssrc: u32,
    /// The stream that it belongs to, if that is told.
    pub(crate) stream: Option<String>,
    /// The formats of the section, when we made it; the client's own otherwise.
    formats: Option<Vec<String>>,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) transceivers: Vec<Transceiver>,
    pub(crate) ufrag: String,
    /// The server's, by which its restarts are told.
    server_ufrag: Option<String>,
    numbers: u32,
    version: u32,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            transceivers: Vec::new(),
            ufrag: "client0".to_owned(),
            server_ufrag: None,
            numbers: 0,
            version: 0,
        }
    }

    fn number(&mut self) -> u32 {
        self.numbers += 1;
        self.numbers
    }

    /// Adds a transceiver, in a stopped one's place when there is one.
    pub(crate) fn add(&mut self, media: &str, send: bool, recv: bool) -> usize {
        let number = self.number();
        let transceiver = Transceiver {
            mid: format!("c{number}"),
            media: media.to_owned(),
            stopped: false,
            send,
            recv,
            ssrc: 1_000_000 + number,
            stream: None,
            formats: None,
        };
        match self.transceivers.iter().position(|t| t.stopped) {
            Some(index) => {
                self.transceivers[index] = transceiver;
                index
            }
            None => {
                self.transceivers.push(transceiver);
                self.transceivers.len() - 1
            }
        }
    }

    /// Has a transceiver of video send AV1 and nothing else.
    pub(crate) fn send_av1(&mut self, index: usize) {
        let lines =
            ["m=video 9 UDP/TLS/RTP/SAVPF 45", "a=rtpmap:45 AV1/90000", "a=rtcp-fb:45 nack pli"];
        self.transceivers[index].formats = Some(lines.map(str::to_owned).to_vec());
    }

    pub(crate) fn restart_ice(&mut self) {
        self.ufrag = format!("client{}", self.number());
    }

    pub(crate) fn offer(&mut self) -> String {
        let sections = self.transceivers.clone();
        self.write("actpass", &sections)
    }

    /// Checks our answer against the offer.
    pub(crate) fn take_answer(&mut self, answer: &str) {
        check_ours(answer);
        self.server_ufrag = ufrag(answer).or(self.server_ufrag.take());
        let answered = sections(answer);
        assert_eq!(answered.len() - 1, self.transceivers.len(), "{answer}");
        for (transceiver, section) in self.transceivers.iter().zip(&answered[1..]) {
            assert_eq!(attribute(section, "mid"), [transceiver.mid.as_str()]);
            assert!(section[0].starts_with(&format!("m={} ", transceiver.media)));
            let is_live = !section[0].contains(" 0 UDP");
            assert!(!(is_live && transceiver.stopped), "{answer}");
            let (send, recv) = direction(section);
            assert!(!send || transceiver.recv, "we send where nothing is received\n{answer}");
            assert!(!recv || transceiver.send, "we receive where nothing is sent\n{answer}");
        }
    }

    /// Answers our offer; `accept` decides on each section that would receive: take it, keep it inactive, or stop it.
    pub(crate) fn answer(&mut self, offer: &str, mut accept: impl FnMut() -> Verdict) -> String {
        check_ours(offer);
        let described = ufrag(offer);
        if self.server_ufrag.is_some() && described != self.server_ufrag {
            self.restart_ice();
        }
        self.server_ufrag = described;
        let offered = sections(offer);
        assert!(offered.len() > self.transceivers.len(), "sections vanish\n{offer}");
        let mut answered = Vec::new();
        for (index, section) in offered[1..].iter().enumerate() {
            let mid = attribute(section, "mid")[0].to_owned();
            let media = section[0][2..].split(' ').next().unwrap().to_owned();
            let stopped = section[0].contains(" 0 UDP");
            let (offered_send, offered_recv) = direction(section);
            let formats = section.iter().skip(1).filter(|line| is_format_line(line));
            let formats: Vec<String> =
                std::iter::once(section[0]).chain(formats.copied()).map(str::to_owned).collect();
            let known = self.transceivers.get(index).filter(|t| !t.stopped).cloned();
            let mut transceiver = known.unwrap_or_else(|| Transceiver {
                mid: mid.clone(),
                media: media.clone(),
                stopped: false,
                send: false,
                recv: true,
                ssrc: 1_000_000 + self.number(),
                stream: None,
                formats: None,
            });
            assert_eq!((&transceiver.mid, &transceiver.media), (&mid, &media), "{offer}");
            transceiver.formats = Some(formats);
            transceiver.stopped |= stopped;
            let mut described = transceiver.clone();
            described.send &= offered_recv;
            described.recv &= offered_send;
            if described.recv {
                match accept() {
                    Verdict::Take => {}
                    Verdict::Pause => described.recv = false,
                    Verdict::Stop => {
                        described.stopped = true;
                        transceiver.stopped = true;
                    }
                }
            }
            match self.transceivers.get_mut(index) {
                Some(slot) => *slot = transceiver,
                None => self.transceivers.push(transceiver),
            }
            answered.push(described);
        }
        self.write("active", &answered)
    }

    fn write(&mut self, setup: &str, sections: &[Transceiver]) -> String {
        self.version += 1;
        let live = sections.iter().filter(|t| !t.stopped).map(|t| t.mid.as_str());
        let bundle: Vec<&str> = live.collect();
        let mut text = format!(
            "v=0\r\no=- 77 {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
            self.version,
            bundle.join(" ")
        );
        let ice = credentials(&self.ufrag);
        for t in sections {
            let mut lines = t.formats.clone().unwrap_or_else(|| own_formats(&t.media));
            let port = if t.stopped { " 0 UDP" } else { " 9 UDP" };
            let media_line = lines.remove(0);
            let (head, formats) = media_line.split_once(" UDP").unwrap();
            let media = head.split(' ').next().unwrap();
            let direction = match (t.send && !t.stopped, t.recv && !t.stopped) {
                (true, true) => "sendrecv",
                (true, false) => "sendonly",
                (false, true) => "recvonly",
                (false, false) => "inactive",
            };
            let _ = write!(
                text,
                "{media}{port}{formats}\r\na=mid:{}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
                 a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=setup:{setup}\r\na=fingerprint:sha-256 {}\r\n",
                t.mid,
                ice.ufrag,
                ice.pwd,
                ["AB"; 32].join(":")
            );
            for line in lines {
                let _ = write!(text, "{line}\r\n");
            }
            if t.send && !t.stopped {
                let _ = write!(text, "a=ssrc:{} cname:client\r\n", t.ssrc);
                if let Some(stream) = &t.stream {
                    let _ = write!(text, "a=msid:{stream} {}\r\n", t.ssrc);
                }
            }
        }
        text
    }
}

/// What a client does with a section in which we would send.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    Take,
    Pause,
    Stop,
}

fn ufrag(sdp: &str) -> Option<String> {
    let line = sdp.split("\r\n").find_map(|line| line.strip_prefix("a=ice-ufrag:"))?;
    Some(line.to_owned())
}

fn is_format_line(line: &str) -> bool {
    ["a=rtpmap", "a=fmtp", "a=rtcp-fb", "a=extmap:", "a=sctp-port", "a=max-message-size"]
        .iter()
        .any(|prefix| line.starts_with(prefix))
}

fn own_formats(media: &str) -> Vec<String> {
    let lines = match media {
        "audio" => vec![
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
            "a=rtpmap:111 opus/48000/2",
            "a=fmtp:111 minptime=10;useinbandfec=1",
            "a=rtpmap:63 red/48000/2",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        ],
        "application" => vec![
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "a=sctp-port:5000",
            "a=max-message-size:262144",
        ],
        _ => vec![
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99",
            "a=rtpmap:96 VP8/90000",
            "a=rtcp-fb:96 nack",
            "a=rtcp-fb:96 nack pli",
            "a=rtpmap:97 rtx/90000",
            "a=fmtp:97 apt=96",
            "a=rtpmap:98 VP9/90000",
            "a=rtpmap:99 rtx/90000",
            "a=fmtp:99 apt=98",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
            "a=extmap:13 urn:3gpp:video-orientation",
        ],
    };
    lines.into_iter().map(str::to_owned).collect()
}

fn direction(section: &[&str]) -> (bool, bool) {
    let has = |line| section.contains(&line);
    match () {
        () if has("a=sendrecv") => (true, true),
        () if has("a=sendonly") => (true, false),
        () if has("a=recvonly") => (false, true),
        () => (false, false),
    }
}
