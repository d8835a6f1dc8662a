//! Asking a listener how its program is, from outside: the health check of a container that has neither shell nor curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// More than any report; who sends more is no admin listener.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Asks the listener at `address` (`host:port`, as it was told to listen) for `path`, for at most `patience`. Answers with
/// the body of a 200.
///
/// # Errors
/// If there is no answer, or another one than 200: what was heard, for people.
pub fn ask(address: &str, path: &str, patience: Duration) -> Result<String, String> {
    let deadline = Instant::now() + patience;
    let unreachable = |error: std::io::Error| format!("no answer at http://{address}{path}: {error}");
    let found = address.to_socket_addrs().map_err(unreachable)?.next();
    let there = reachable(found.ok_or_else(|| format!("{address} names no address"))?);
    let mut stream = TcpStream::connect_timeout(&there, patience).map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {there}\r\nConnection: close\r\n\r\n");
    stream
        .set_write_timeout(Some(patience))
        .and_then(|()| stream.write_all(request.as_bytes()))
        .map_err(unreachable)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        // A timeout of zero would mean none.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).map_err(unreachable)?;
        match stream.read(&mut piece).map_err(unreachable)? {
            0 => return verdict(&String::from_utf8_lossy(&answer)),
            length => answer.extend_from_slice(&piece[..length]),
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(format!("http://{address}{path} answers with more than {LONGEST_ANSWER} bytes"));
        }
        if Instant::now() >= deadline {
            return Err(format!("no whole answer at http://{address}{path} within {patience:?}"));
        }
    }
}

/// Who listens everywhere is asked on this machine.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// The body of an answer of HTTP/1 with status 200, else what it says.
fn verdict(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP: it has no end of headers")?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|line| line.get(..3));
    match status.ok_or_else(|| format!("the answer is no HTTP/1.1: {:?}", head.lines().next().unwrap_or_default()))? {
        "200" => Ok(body.to_owned()),
        status => Err(format!("status {status}: {}", body.trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A listener that reads a request, answers with `answer` and closes; its address.
    fn answering(answer: impl Into<Vec<u8>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound").to_string();
        let answer = answer.into();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a caller");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            assert!(request.starts_with(b"GET /readyz HTTP/1.1\r\n"), "{request:?}");
            // Who hears too much hangs up first.
            let _ = stream.write_all(&answer);
        });
        address
    }

    #[test]
    fn only_a_200_is_good() {
        let body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(ask(&answering(body), "/readyz", PATIENCE), Ok("ok".to_owned()));
        for (answer, heard) in [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\njournal", "status 503: journal"),
            ("HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
            ("HTTP/1.1 200 OK\r\n", "no end of headers"),
            ("PRI * HTTP/2.0\r\n\r\n", "no HTTP/1.1"),
            ("", "no end of headers"),
        ] {
            let error = ask(&answering(answer), "/readyz", PATIENCE).unwrap_err();
            assert!(error.contains(heard), "{answer:?}: {error}");
        }
        let endless = vec![b'x'; 2 * LONGEST_ANSWER];
        assert!(ask(&answering(endless), "/readyz", PATIENCE).unwrap_err().contains("more than"));
    }

    #[test]
    fn nobody_there_is_an_answer_too() {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
        let error = ask(&free.to_string(), "/readyz", PATIENCE).unwrap_err();
        assert!(error.starts_with(&format!("no answer at http://{free}/readyz")), "{error}");
        // One that accepts and is silent: the kernel accepts for it.
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = silent.local_addr().expect("bound").to_string();
        assert!(ask(&address, "/readyz", Duration::from_millis(20)).is_err());
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listening, asked) in
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.5:1", "10.0.0.5:1"), ("[::1]:1", "[::1]:1")]
        {
            assert_eq!(reachable(listening.parse().expect("an address")).to_string(), asked);
        }
    }
}
