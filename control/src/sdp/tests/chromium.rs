//! A real browser on the other side, signalling over loopback. Ignored by default: it needs Chromium in the path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::*;

struct Browser {
    child: Child,
    profile: std::path::PathBuf,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn launch(port: u16) -> Browser {
    let profile = std::env::temp_dir().join(format!("sluice-sdp-{}-{port}", std::process::id()));
    let child = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        .arg("--autoplay-policy=no-user-gesture-required")
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://127.0.0.1:{port}/"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("chromium starts");
    Browser { child, profile }
}

/// Reads one request and answers it; the body of `/done` ends the conversation.
fn serve(stream: TcpStream, page: &str, session: &mut Negotiator) -> Option<String> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).unwrap();
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, text) = match respond(path, &body, session) {
        Ok(_) if path == "/" => (200, page.to_owned()),
        Ok(text) => (200, text),
        Err(error) => (400, error),
    };
    let mut stream = reader.into_inner();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        text.len()
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
    (path == "/done").then_some(body)
}

fn respond(path: &str, body: &str, session: &mut Negotiator) -> Result<String, String> {
    let said = |error: NegotiationError| format!("{error}\n{body}");
    match path {
        "/offer" => {
            let negotiated = session.handle_offer(body).map_err(said)?;
            check_ours(&negotiated.answer);
            return Ok(format!("{}\n---\n{}", names(&negotiated.changes), negotiated.answer));
        }
        "/make_offer" => {
            let offer = session.make_offer().ok_or("nothing to offer")?;
            check_ours(&offer);
            return Ok(offer);
        }
        "/answer" => return session.handle_answer(body).map(|c| names(&c)).map_err(said),
        "/add" => match body.split_once(' ') {
            Some(("audio", track)) => session.add_track(audio_track(track.parse().unwrap())),
            Some((_, track)) => session.add_track(video_track(track.parse().unwrap())),
            None => return Err("which?".to_owned()),
        },
        "/remove" => drop(session.remove_track(TrackId(body.parse().unwrap()))),
        "/restart" => drop(session.restart_ice()),
        "/rollback" => session.rollback_offer(),
        _ => {}
    }
    Ok(String::new())
}

fn names(changes: &[Change]) -> String {
    let name = |change: &Change| match change {
        Change::RestartIce { .. } => "RestartIce".to_owned(),
        Change::SetRemote(_) => "SetRemote".to_owned(),
        Change::Publish { params, .. } => {
            let layers = params.layers.iter().map(|rid| format!(" {}", rid.as_str()));
            format!("Publish({}{})", params.mid.as_str(), layers.collect::<String>())
        }
        Change::Unpublish(_) => "Unpublish".to_owned(),
        Change::AddLeg(leg) => format!("AddLeg({} in {})", leg.track, leg.mid.as_str()),
        Change::RemoveLeg(_) => "RemoveLeg".to_owned(),
    };
    changes.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// Lets Chromium run `page` against `session`; what it noted.
fn converse(page: &str, session: &mut Negotiator) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _browser = launch(listener.local_addr().unwrap().port());
    loop {
        let (stream, _) = listener.accept().unwrap();
        if let Some(log) = serve(stream, page, session) {
            return log;
        }
    }
}

#[test]
#[ignore = "needs Chromium"]
fn chromium_negotiates_through_a_whole_session() {
    let mut session = negotiator(Policy::NATIVE);
    let log = converse(include_str!("chromium.html"), &mut session);
    let own = "0:audio:sendonly 1:video:sendonly";
    let rest =
        "s0:audio:recvonly s1:video:sendrecv s2:video:recvonly s3:video:recvonly s4:audio:recvonly";
    let all = format!("{own} {rest}");
    let expected = [
        format!("publish = SetRemote Publish(0) Publish(1) | {own}"),
        format!("subscribe = AddLeg(1 in s0) AddLeg(2 in s1) AddLeg(3 in s2) | {own} s0:audio:recvonly s1:video:recvonly s2:video:recvonly"),
        format!("remove =  | {own} s0:audio:recvonly s1:video:inactive s2:video:recvonly"),
        format!("recycle = AddLeg(4 in s1) | {own} s0:audio:recvonly s1:video:recvonly s2:video:recvonly"),
        format!("replace = AddLeg(5 in s2) AddLeg(6 in s3) | {own} s0:audio:recvonly s1:video:recvonly s2:video:recvonly s3:video:recvonly"),
        format!("nothing =  | {own} s0:audio:recvonly s1:video:recvonly s2:video:recvonly s3:video:recvonly"),
        format!("reuse = Publish(s1) | {own} s0:audio:recvonly s1:video:sendrecv s2:video:recvonly s3:video:recvonly"),
        format!("add beside reuse = AddLeg(7 in s4) | {all}"),
        format!("restart = RestartIce SetRemote | {all}"),
        format!("restart of ours = SetRemote | {all}"),
        format!("stop = Unpublish | 0:audio:sendonly {rest}"),
        format!("fill the stopped one = AddLeg(8 in s5) | 0:audio:sendonly {rest} s5:video:recvonly"),
        "streams = session-1/audio session-2/video session-3/video session-4/video session-5/video \
         session-6/video session-7/audio session-8/video"
            .to_owned(),
    ];
    assert_eq!(log.lines().collect::<Vec<_>>(), expected, "\n{log}");
    // Two of its own and five of ours, the stopped one filled again.
    assert_eq!(session.agreed.sections.len(), 7);
}

#[test]
#[ignore = "needs Chromium"]
fn chromium_negotiates_as_a_client_of_rtcd() {
    let mut session = negotiator(Policy::RTCD);
    let log = converse(include_str!("chromium_rtcd.html"), &mut session);
    let own = "1:audio:sendonly 2:video:sendonly";
    let voices = "s0:audio:recvonly s1:audio:recvonly";
    let three = format!("{voices} s2:video:recvonly");
    let five = format!("{three} s3:audio:recvonly s4:audio:recvonly");
    let expected = [
        "data = SetRemote | ".to_owned(),
        "microphone = Publish(1) | 1:audio:sendonly".to_owned(),
        format!("screen = Publish(2 l h) | {own}"),
        format!("voices = AddLeg(1 in s0) AddLeg(2 in s1) | {own} {voices}"),
        format!("screen goes on = AddLeg(3 in s2) | {own} {three}"),
        format!("after an answer too late = AddLeg(4 in s3) | {own} {three} s3:audio:recvonly"),
        format!("after an offer that was lost = AddLeg(5 in s4) | {own} {five}"),
        format!("unshare = Unpublish | 1:audio:sendonly 2:video:inactive {five}"),
        "layers = l h".to_owned(),
        "names = session-1/audio session-2/audio session-3/video session-4/audio session-5/audio"
            .to_owned(),
    ];
    assert_eq!(log.lines().collect::<Vec<_>>(), expected, "\n{log}");
    assert!(session.has_data_channel());
}
