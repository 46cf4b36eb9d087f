//! What a client reads in a description of the server's, without the server's SDP code.

/// One m= section.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Section {
    /// First word of the m= line: `audio`, `video` or `application`.
    pub(crate) media: String,
    pub(crate) mid: String,
    pub(crate) port: u16,
    /// `sendrecv`, `sendonly`, `recvonly` or `inactive`.
    pub(crate) direction: String,
    /// Both words of `a=msid`: stream and track.
    pub(crate) msid: Option<(String, String)>,
    /// Distinct SSRCs, those of RTX included.
    pub(crate) ssrcs: Vec<u32>,
    /// CNAMEs of its SSRCs.
    pub(crate) cnames: Vec<String>,
    /// Payload types with the names of their codecs.
    pub(crate) codecs: Vec<(u8, String)>,
    /// URIs of its header extensions.
    pub(crate) extensions: Vec<String>,
    /// All its `a=` lines.
    pub(crate) lines: Vec<String>,
}

impl Section {
    /// Whether who wrote it sends media in it.
    pub(crate) fn sends(&self) -> bool {
        self.media != "application"
            && self.port != 0
            && matches!(self.direction.as_str(), "sendrecv" | "sendonly")
    }

    /// The codec of a payload type.
    pub(crate) fn codec(&self, payload_type: u8) -> Option<&str> {
        let is_it = |(number, _): &&(u8, String)| *number == payload_type;
        self.codecs.iter().find(is_it).map(|(_, codec)| codec.as_str())
    }
}

/// The sections of a description, in their order.
pub(crate) fn sections(sdp: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in sdp.lines() {
        if let Some(rest) = line.strip_prefix("m=") {
            let mut words = rest.split(' ');
            sections.push(Section {
                media: words.next().unwrap_or_default().to_owned(),
                port: words.next().and_then(|port| port.parse().ok()).unwrap_or_default(),
                direction: "sendrecv".to_owned(),
                ..Section::default()
            });
            continue;
        }
        let (Some(section), Some(line)) = (sections.last_mut(), line.strip_prefix("a=")) else {
            continue;
        };
        section.lines.push(line.to_owned());
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let words: Vec<&str> = value.split(' ').collect();
        match name {
            "mid" => section.mid = value.to_owned(),
            "sendrecv" | "sendonly" | "recvonly" | "inactive" => {
                section.direction = name.to_owned()
            }
            "msid" if words.len() == 2 => {
                section.msid = Some((words[0].to_owned(), words[1].to_owned()));
            }
            "ssrc" => {
                section.ssrcs.extend(words[0].parse::<u32>().ok());
                section.ssrcs.dedup();
                let cname = words.get(1).and_then(|word| word.strip_prefix("cname:"));
                section.cnames.extend(cname.map(str::to_owned));
            }
            "rtpmap" => {
                let codec = words.get(1).and_then(|word| word.split('/').next());
                let number = words[0].parse().ok();
                section.codecs.extend(number.zip(codec.map(str::to_owned)));
            }
            "extmap" => section.extensions.extend(words.get(1).map(|uri| (*uri).to_owned())),
            _ => {}
        }
    }
    sections
}

/// The description without the candidates in it, and the candidates: a browser trickles them.
pub(crate) fn without_candidates(sdp: &str) -> (String, Vec<String>) {
    let is_candidate = |line: &&str| line.starts_with("a=candidate:");
    let rest = sdp.lines().filter(|line| !is_candidate(line)).map(|line| format!("{line}\r\n"));
    let candidates = sdp.lines().filter(is_candidate).map(|line| line[2..].to_owned());
    (rest.collect(), candidates.collect())
}

/// The description with the section `mid` restricted to one codec, as `setCodecPreferences` does it.
pub(crate) fn only_codec(sdp: &str, mid: &str, codec: &str) -> String {
    let mut wanted = String::new();
    for section in split(sdp) {
        if !section.contains(&format!("a=mid:{mid}\r\n")) {
            wanted += &section;
            continue;
        }
        let rtpmap = |line: &&str| line.contains(&format!(" {codec}/"));
        let number =
            |line: &str| line.strip_prefix("a=rtpmap:")?.split(' ').next().map(str::to_owned);
        let keep = section.lines().find(rtpmap).and_then(number).expect("the codec is offered");
        for line in section.lines() {
            let of_other = ["a=rtpmap:", "a=fmtp:", "a=rtcp-fb:"].iter().any(|attribute| {
                line.strip_prefix(attribute)
                    .is_some_and(|rest| !rest.starts_with(&format!("{keep} ")))
            });
            if line.starts_with("m=") {
                let words: Vec<&str> = line.splitn(4, ' ').collect();
                wanted += &format!("{} {keep}\r\n", words[..3].join(" "));
            } else if !of_other {
                wanted += &format!("{line}\r\n");
            }
        }
    }
    wanted
}

/// The session part and each section as text.
fn split(sdp: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            parts.push(String::new());
        }
        let part = parts.last_mut().expect("there is a first one");
        *part += &format!("{line}\r\n");
    }
    parts
}
