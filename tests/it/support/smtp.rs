//! A small mail relay that keeps what it accepts. How it answers depends on the recipient:
//!
//! | recipient | answer |
//! |---|---|
//! | `nobody@…` | 550 5.1.1 to RCPT |
//! | `policy@…` | 550 5.7.1 to RCPT |
//! | `later@…` | 451 4.7.1 to RCPT |
//! | `refused@…` | 554 5.6.0 after the final dot |
//! | `vanish@…` | closes after the final dot, having kept the mail |
//! | anybody else | 250 |
//!
//! It speaks from threads, so that a test's runtime cannot stop it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A running relay.
pub struct Relay {
    pub port: u16,
    accepted: Arc<Mutex<Vec<Accepted>>>,
}

/// A mail it took responsibility for.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub from: String,
    pub to: String,
    pub message: Vec<u8>,
}

impl Relay {
    /// Starts listening on a free port.
    pub fn start() -> Self {
        Self::watched(|| {})
    }

    /// The same; `watch` is called when the final dot of a mail has come and was not answered yet.
    pub fn watched(watch: impl Fn() + Send + Sync + 'static) -> Self {
        let watch = Arc::new(watch);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&accepted);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, watch) = (Arc::clone(&kept), Arc::clone(&watch));
                std::thread::spawn(move || {
                    // A client that goes away in the middle is part of what is tested.
                    let _ = converse(stream, &kept, &*watch);
                });
            }
        });
        Self { port, accepted }
    }

    /// What was accepted so far.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.accepted.lock().unwrap().clone()
    }
}

impl Accepted {
    /// The text part, decoded.
    pub fn text(&self) -> String {
        mail_parser::MessageParser::default().parse(&self.message).unwrap().body_text(0).unwrap().into_owned()
    }

    /// A header, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let message = mail_parser::MessageParser::default().parse(&self.message).unwrap();
        let raw = message.header_raw(name)?;
        Some(raw.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn converse(stream: TcpStream, accepted: &Mutex<Vec<Accepted>>, watch: &dyn Fn()) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    let mut output = stream;
    let (mut from, mut to) = (String::new(), String::new());
    output.write_all(b"220 relay.example ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.trim_end().to_ascii_uppercase();
        let reply: &[u8] = if verb.starts_with("EHLO") {
            b"250-relay.example\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
        } else if verb.starts_with("MAIL FROM:") {
            from = address(&line);
            b"250 2.1.0 ok\r\n"
        } else if verb.starts_with("RCPT TO:") {
            to = address(&line);
            match to.split('@').next().unwrap_or_default() {
                "nobody" => b"550 5.1.1 <nobody@customer.example>: no such user\r\n",
                "policy" => b"550 5.7.1 not wanted here\r\n",
                "later" => b"451 4.7.1 greylisted, come back\r\n",
                _ => b"250 2.1.5 ok\r\n",
            }
        } else if verb == "DATA" {
            output.write_all(b"354 go ahead\r\n")?;
            let Some(message) = read_message(&mut input)? else { return Ok(()) };
            watch();
            let keep = || {
                let mail = Accepted { from: from.clone(), to: to.clone(), message: message.clone() };
                accepted.lock().unwrap().push(mail);
            };
            match to.split('@').next().unwrap_or_default() {
                "refused" => b"554 5.6.0 the message is not wanted\r\n",
                "vanish" => {
                    keep();
                    return Ok(());
                }
                _ => {
                    keep();
                    b"250 2.0.0 queued\r\n"
                }
            }
        } else if verb == "QUIT" {
            output.write_all(b"221 2.0.0 bye\r\n")?;
            return Ok(());
        } else {
            b"502 5.5.2 what?\r\n"
        };
        output.write_all(reply)?;
    }
}

fn read_message(input: &mut impl std::io::BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut message = Vec::new();
    loop {
        let mut line = Vec::new();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line == b".\r\n" {
            return Ok(Some(message));
        }
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn address(line: &str) -> String {
    line.split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(address, _)| address.to_owned())
        .unwrap_or_default()
}
