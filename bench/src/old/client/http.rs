//! HTTP/1.1 as far as the bench needs it: one request a connection, small answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The API of the server under test.
#[derive(Clone, Debug)]
pub struct Api {
    address: SocketAddr,
    token: Option<String>,
}

/// An answer with its whole body.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    head: String,
    pub body: String,
}

const TIMEOUT: Duration = Duration::from_secs(10);
const RESPONSE_BYTES_MAX: u64 = 4 << 20;

impl Api {
    pub fn new(address: SocketAddr, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// No connection, no answer within ten seconds, or one that is no HTTP.
    pub fn request(&self, method: &str, path: &str, sdp: &str) -> Result<Response, String> {
        let failed = |error| format!("{method} {path}: {error}");
        let mut stream = TcpStream::connect_timeout(&self.address, TIMEOUT).map_err(failed)?;
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        if !sdp.is_empty() {
            request += "Content-Type: application/sdp\r\n";
        }
        request += &format!("Content-Length: {}\r\n\r\n{sdp}", sdp.len());
        stream.write_all(request.as_bytes()).map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut answer).map_err(failed)?;
        parse(&answer).ok_or_else(|| format!("{method} {path}: the answer is no HTTP"))
    }

    /// As [`Api::request`], where only one status will do.
    ///
    /// # Errors
    /// As [`Api::request`], and another status.
    pub fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        sdp: &str,
    ) -> Result<Response, String> {
        let response = self.request(method, path, sdp)?;
        match response.status == status {
            true => Ok(response),
            false => Err(format!("{method} {path}: {} {}", response.status, response.body)),
        }
    }
}

impl Response {
    /// A field of the header.
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }
}

fn parse(answer: &[u8]) -> Option<Response> {
    let text = std::str::from_utf8(answer).ok()?;
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let mut response = Response { status, head: head.to_owned(), body: String::new() };
    let chunked = response
        .field("transfer-encoding")
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    response.body = if chunked { unchunk(rest)? } else { rest.to_owned() };
    if let Some(len) = response.field("content-length").and_then(|len| len.parse::<usize>().ok())
        && response.body.len() != len
    {
        return None;
    }
    Some(response)
}

/// Joins the chunks of a body. Source: RFC 9112 §7.1.
fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += after.get(..size)?;
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = b"HTTP/1.1 201 Created\r\nlocation: /x\r\nContent-Length: 2\r\n\r\nv=";
        let response = parse(answer).unwrap();
        assert_eq!((response.status, response.body.as_str()), (201, "v="));
        assert_eq!(response.field("Location"), Some("/x"));
        assert!(parse(&answer[..answer.len() - 1]).is_none(), "cut short");
        assert!(parse(b"SSH-2.0").is_none());
    }

    #[test]
    fn chunks_are_joined() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = parse(format!("{head}3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").as_bytes());
        assert_eq!(whole.unwrap().body, "abcde");
        assert!(parse(format!("{head}ff\r\nabc").as_bytes()).is_none());
    }
}
