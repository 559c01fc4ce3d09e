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
//! Without encryption it takes several commands at once (PIPELINING) over every second connection, beginning with the first, as an address
//! with two relays behind it might; with STARTTLS over every one, encrypted from the first byte over none.
//!
//! It speaks from threads, so that a test's runtime cannot stop it.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Whom an encrypted relay knows, as AUTH PLAIN writes it: user `shop`, password `correct horse`.
const CREDENTIALS_PLAIN: &str = "AHNob3AAY29ycmVjdCBob3JzZQ==";

/// A running relay.
pub struct Relay {
    pub port: u16,
    house: Arc<House>,
}

/// A mail it took responsibility for.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub from: String,
    pub to: String,
    pub message: Vec<u8>,
    pub is_encrypted: bool,
    /// Whether RCPT and DATA came along with MAIL.
    pub is_pipelined: bool,
}

/// What all conversations of a relay share.
struct House {
    security: Security,
    /// Called when the final dot of a mail has come and was not answered yet.
    watch: Box<dyn Fn() + Send + Sync>,
    /// Which mails are kept and not answered: every so manyth.
    drops: &'static [usize],
    accepted: Mutex<Vec<Accepted>>,
    n_accepted: AtomicUsize,
    n_connections: AtomicUsize,
}

/// Encrypted relays take mail only from whom they know.
pub enum Security {
    None,
    Starttls(Arc<ServerConfig>),
    Implicit(Arc<ServerConfig>),
}

/// A certificate for `localhost`, made here: what a relay shows, and the file a client has to trust.
pub fn certificate() -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    (Arc::new(config), made.cert.pem())
}

impl Relay {
    /// Starts listening on a free port.
    pub fn start() -> Self {
        Self::watched(|| {})
    }

    /// The same; `watch` is called when the final dot of a mail has come and was not answered yet.
    pub fn watched(watch: impl Fn() + Send + Sync + 'static) -> Self {
        Self::open(Security::None, &[], watch)
    }

    /// The same; of every so many mails one is kept, and the connection closed instead of an answer.
    pub fn dropping(drops: &'static [usize], watch: impl Fn() + Send + Sync + 'static) -> Self {
        Self::open(Security::None, drops, watch)
    }

    /// A relay that encrypts and knows whom it lets in.
    pub fn secure(security: Security) -> Self {
        Self::open(security, &[], || {})
    }

    fn open(security: Security, drops: &'static [usize], watch: impl Fn() + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let house = Arc::new(House {
            security,
            watch: Box::new(watch),
            drops,
            accepted: Mutex::default(),
            n_accepted: AtomicUsize::new(0),
            n_connections: AtomicUsize::new(0),
        });
        let shared = Arc::clone(&house);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let house = Arc::clone(&shared);
                let connection = house.n_connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || {
                    // A client that goes away in the middle is part of what is tested.
                    let _ = converse(stream, &house, connection);
                });
            }
        });
        Self { port, house }
    }

    /// How often somebody connected.
    pub fn n_connections(&self) -> usize {
        self.house.n_connections.load(Ordering::Relaxed)
    }

    /// How many were accepted so far.
    pub fn n_accepted(&self) -> usize {
        self.house.n_accepted.load(Ordering::Relaxed)
    }

    /// What was accepted so far.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.house.accepted.lock().unwrap().clone()
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

/// What a conversation runs over.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Wire {
    fn answer(&mut self, reply: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(reply),
            Self::Tls(stream) => stream.write_all(reply).and_then(|()| stream.flush()),
        }
    }

    fn encrypted(self, config: &Arc<ServerConfig>) -> std::io::Result<Self> {
        let Self::Plain(stream) = self else { return Ok(self) };
        let connection = ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }
}

fn converse(stream: TcpStream, house: &House, connection: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wire = Wire::Plain(stream);
    if let Security::Implicit(config) = &house.security {
        wire = wire.encrypted(config)?;
    }
    let mut input = BufReader::new(wire);
    let (mut from, mut to) = (String::new(), String::new());
    let mut is_pipelined = false;
    let mut is_known = matches!(house.security, Security::None);
    input.get_mut().answer(b"220 relay.example ESMTP\r\n")?;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.trim_end().to_ascii_uppercase();
        let reply: &[u8] = if verb.starts_with("EHLO") {
            match (&house.security, input.get_ref()) {
                (Security::None, _) if connection.is_multiple_of(2) => {
                    b"250-relay.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"
                }
                (Security::None, _) => b"250-relay.example\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n",
                (_, Wire::Plain(_)) => b"250-relay.example\r\n250 STARTTLS\r\n",
                (Security::Starttls(_), Wire::Tls(_)) => {
                    b"250-relay.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n"
                }
                (Security::Implicit(_), Wire::Tls(_)) => {
                    b"250-relay.example\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n"
                }
            }
        } else if verb == "STARTTLS" {
            let Security::Starttls(config) = &house.security else { return Ok(()) };
            input.get_mut().answer(b"220 2.0.0 go ahead\r\n")?;
            // What was sent before the encryption is not to be read after it.
            input = BufReader::new(input.into_inner().encrypted(config)?);
            continue;
        } else if verb.starts_with("AUTH PLAIN") {
            is_known = line.trim_end().ends_with(CREDENTIALS_PLAIN);
            if is_known { b"235 2.7.0 welcome\r\n" } else { b"535 5.7.8 wrong\r\n" }
        } else if verb.starts_with("MAIL FROM:") {
            from = address(&line);
            is_pipelined = !input.buffer().is_empty();
            if is_known { b"250 2.1.0 ok\r\n" } else { b"530 5.7.0 who are you?\r\n" }
        } else if verb.starts_with("RCPT TO:") {
            to = address(&line);
            match to.split('@').next().unwrap_or_default() {
                "nobody" => b"550 5.1.1 <nobody@customer.example>: no such user\r\n",
                "policy" => b"550 5.7.1 not wanted here\r\n",
                "later" => b"451 4.7.1 greylisted, come back\r\n",
                _ => b"250 2.1.5 ok\r\n",
            }
        } else if verb == "DATA" {
            input.get_mut().answer(b"354 go ahead\r\n")?;
            let Some(message) = read_message(&mut input)? else { return Ok(()) };
            (house.watch)();
            let is_encrypted = matches!(input.get_ref(), Wire::Tls(_));
            let keep = || {
                let (from, to, message) = (from.clone(), to.clone(), message.clone());
                let mail = Accepted { from, to, message, is_encrypted, is_pipelined };
                house.accepted.lock().unwrap().push(mail);
                house.n_accepted.fetch_add(1, Ordering::Relaxed) + 1
            };
            match to.split('@').next().unwrap_or_default() {
                "refused" => b"554 5.6.0 the message is not wanted\r\n",
                "vanish" => {
                    keep();
                    return Ok(());
                }
                _ => {
                    let n = keep();
                    if house.drops.iter().any(|every| n.is_multiple_of(*every)) {
                        return Ok(());
                    }
                    b"250 2.0.0 queued\r\n"
                }
            }
        } else if verb == "QUIT" {
            input.get_mut().answer(b"221 2.0.0 bye\r\n")?;
            return Ok(());
        } else {
            b"502 5.5.2 what?\r\n"
        };
        input.get_mut().answer(reply)?;
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
