//! Descriptions as a client writes them.

/// The peer's ICE credentials and certificate; `generation` makes new credentials.
fn transport(generation: u32) -> String {
    let fingerprint = vec!["CD"; 32].join(":");
    format!(
        "a=ice-ufrag:peer{generation:04}\r\na=ice-pwd:peerpasswordpeerpassword{generation:04}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\n"
    )
}

/// An offer of sections `(kind, mid, direction)`.
pub(crate) fn offer(sections: &[(&str, &str, &str)]) -> String {
    offer_of_generation(sections, 1)
}

pub(crate) fn offer_of_generation(sections: &[(&str, &str, &str)], generation: u32) -> String {
    let mids: Vec<&str> = sections.iter().map(|(_, mid, _)| *mid).collect();
    let mut sdp = format!(
        "v=0\r\no=- 4611731400430051336 {generation} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         a=group:BUNDLE {}\r\na=msid-semantic: WMS\r\n",
        mids.join(" ")
    );
    for (kind, mid, direction) in sections {
        let formats = if *kind == "audio" { "111" } else { "96 97" };
        sdp += &format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\n\
             a=rtcp:9 IN IP4 0.0.0.0\r\n"
        );
        sdp += &transport(generation);
        sdp += &format!("a=setup:actpass\r\na=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\n");
        sdp += match *kind {
            "audio" => "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n",
            _ => {
                "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            }
        };
        if direction.starts_with("send") {
            sdp += &format!("a=msid:stream track{mid}\r\na=ssrc:100{mid} cname:peer\r\n");
        }
    }
    sdp
}

/// Publishes audio and video.
pub(crate) fn publishing() -> String {
    offer(&[("audio", "0", "sendonly"), ("video", "1", "sendonly")])
}

/// Receives audio and video.
pub(crate) fn receiving() -> String {
    offer(&[("audio", "0", "recvonly"), ("video", "1", "recvonly")])
}

/// Takes everything that an offer of the server offers, with the credentials of `generation`, and goes
/// on sending what [`offer`] sent.
pub(crate) fn answer_to(offer: &str, generation: u32) -> String {
    let dropped = [
        "a=candidate:",
        "a=end-of-candidates",
        "a=ice-",
        "a=fingerprint:",
        "a=setup:",
        "a=ssrc",
        "a=msid:",
    ];
    let mut sdp = String::new();
    let mut mid = "";
    for line in offer.lines().filter(|line| !dropped.iter().any(|d| line.starts_with(d))) {
        match line {
            "a=sendonly" => sdp += "a=recvonly\r\n",
            "a=recvonly" => {
                sdp += &format!("a=sendonly\r\na=msid:stream track{mid}\r\n");
                sdp += &format!("a=ssrc:100{mid} cname:peer\r\n");
            }
            line => sdp += &format!("{line}\r\n"),
        }
        if let Some(found) = line.strip_prefix("a=mid:") {
            mid = found;
            sdp += &transport(generation);
            sdp += "a=setup:active\r\n";
        }
    }
    sdp
}

/// The m= lines of a description.
pub(crate) fn media_lines(sdp: &str) -> Vec<&str> {
    sdp.lines().filter(|line| line.starts_with("m=")).collect()
}

/// A fragment with the credentials of `generation` and one candidate.
pub(crate) fn fragment(generation: u32) -> String {
    format!(
        "a=ice-ufrag:peer{generation:04}\r\na=ice-pwd:peerpasswordpeerpassword{generation:04}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
         a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host\r\n\
         a=end-of-candidates\r\n"
    )
}
