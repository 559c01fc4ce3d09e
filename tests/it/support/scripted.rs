//! A relay that follows a script: at every step of every conversation the script says how it behaves. What it keeps is the truth about
//! what was accepted.
//!
//! It speaks from threads, so that a test's runtime cannot stop it, and a conversation ends when the client has gone.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::on_own_runtime;

/// Where in a conversation the relay is asked to do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Before it says anything.
    Connect,
    Greeting,
    Ehlo,
    /// EHLO once more in the same conversation.
    EhloAgain,
    Starttls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The first line of the message has come.
    Body,
    /// The final dot has come; the message is kept only if the relay accepts.
    Dot,
    /// The message is kept and not yet answered.
    Kept,
    Quit,
}

/// How it behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// As it should.
    Accept,
    /// 451.
    Later,
    /// 554.
    Never,
    /// This reply.
    Say(&'static str),
    /// 354 where it makes no sense, and 250 where 354 is expected.
    Misplaced,
    /// Bytes that are no reply.
    Garbage,
    /// A line of 100 KB.
    LongLine,
    /// Bytes without end and without a line's end, as long as somebody reads them.
    Endless,
    /// RST.
    Reset,
    /// FIN.
    Close,
    /// Nothing, for as long as the client waits.
    Hang,
    /// The right reply, a byte a second.
    Drip,
    /// The right reply, twice at once.
    Twice,
    /// The right reply, and at once this.
    AndThen(&'static str),
}

/// What the relay is in the middle of.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// From 0.
    pub connection: usize,
    /// How many MAIL commands came before this, over all connections.
    pub mail: usize,
    /// The recipient, once it is known.
    pub to: String,
}

type Script = dyn FnMut(Step, &Seen) -> Behaviour + Send;

/// A running relay.
pub struct Scripted {
    pub port: u16,
    house: Arc<House>,
}

struct House {
    script: Mutex<Box<Script>>,
    /// The recipient of every mail that was accepted, in the order in which that happened.
    accepted: Mutex<Vec<String>>,
    n_connections: AtomicUsize,
    n_mails: AtomicUsize,
    /// Which extensions EHLO names.
    offers: &'static str,
}

impl Scripted {
    /// Starts listening on a free port. `offers`: a line of the answer to EHLO, such as `STARTTLS`; empty for none.
    pub fn start(
        offers: &'static str,
        script: impl FnMut(Step, &Seen) -> Behaviour + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let house = Arc::new(House {
            script: Mutex::new(Box::new(script)),
            accepted: Mutex::default(),
            n_connections: AtomicUsize::new(0),
            n_mails: AtomicUsize::new(0),
            offers,
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

    /// The recipients of what was accepted so far, in that order.
    pub fn accepted(&self) -> Vec<String> {
        self.house.accepted.lock().unwrap().clone()
    }

    /// How often somebody connected.
    pub fn n_connections(&self) -> usize {
        self.house.n_connections.load(Ordering::Relaxed)
    }
}

/// Whether the conversation goes on, and whether the relay did as it should.
enum Done {
    Accepted,
    Refused,
    Ended,
}

struct Conversation<'a> {
    input: BufReader<TcpStream>,
    house: &'a House,
    seen: Seen,
    is_greeted: bool,
}

fn converse(stream: TcpStream, house: &House, connection: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let seen = Seen { connection, ..Seen::default() };
    Conversation { input: BufReader::new(stream), house, seen, is_greeted: false }.run()
}

impl Conversation<'_> {
    fn run(mut self) -> std::io::Result<()> {
        if matches!(self.step(Step::Connect, "")?, Done::Ended)
            || !matches!(self.step(Step::Greeting, "220 relay.example ESMTP\r\n")?, Done::Accepted)
        {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            if self.input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let verb = line.trim_end().to_ascii_uppercase();
            let done = if verb.starts_with("EHLO") {
                let offers = self.house.offers;
                let reply = match offers {
                    "" => "250-relay.example\r\n250 8BITMIME\r\n".to_owned(),
                    offers => format!("250-relay.example\r\n250-{offers}\r\n250 8BITMIME\r\n"),
                };
                let is_first = !std::mem::replace(&mut self.is_greeted, true);
                self.step(if is_first { Step::Ehlo } else { Step::EhloAgain }, &reply)?
            } else if verb == "STARTTLS" {
                // There is no encryption here; who accepts has to close then.
                match self.step(Step::Starttls, "220 2.0.0 go ahead\r\n")? {
                    Done::Accepted => Done::Ended,
                    other => other,
                }
            } else if verb.starts_with("AUTH PLAIN") {
                self.step(Step::Auth, "235 2.7.0 welcome\r\n")?
            } else if verb.starts_with("MAIL FROM:") {
                self.seen.mail = self.house.n_mails.fetch_add(1, Ordering::Relaxed);
                self.step(Step::Mail, "250 2.1.0 ok\r\n")?
            } else if verb.starts_with("RCPT TO:") {
                let address = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
                self.seen.to = address.map(|(address, _)| address.to_owned()).unwrap_or_default();
                self.step(Step::Rcpt, "250 2.1.5 ok\r\n")?
            } else if verb == "DATA" {
                match self.step(Step::Data, "354 go ahead\r\n")? {
                    Done::Accepted => self.take_message()?,
                    other => other,
                }
            } else if verb == "QUIT" {
                self.step(Step::Quit, "221 2.0.0 bye\r\n")?;
                Done::Ended
            } else {
                self.say("502 5.5.2 what?\r\n")?;
                Done::Refused
            };
            if matches!(done, Done::Ended) {
                return Ok(());
            }
        }
    }

    fn take_message(&mut self) -> std::io::Result<Done> {
        let mut n_lines = 0;
        let mut has_answered = false;
        loop {
            let mut line = Vec::new();
            if self.input.read_until(b'\n', &mut line)? == 0 {
                return Ok(Done::Ended);
            }
            if n_lines == 0 {
                match self.step(Step::Body, "")? {
                    Done::Accepted => {}
                    // It has said what it says, and hears the rest.
                    Done::Refused => has_answered = true,
                    Done::Ended => return Ok(Done::Ended),
                }
            }
            n_lines += 1;
            if line == b".\r\n" {
                break;
            }
        }
        if has_answered {
            return Ok(Done::Refused);
        }
        // What is said to accept it is said only when it is kept.
        let behaviour = self.asked(Step::Dot);
        match behaviour {
            Behaviour::Accept | Behaviour::Twice | Behaviour::AndThen(_) => {}
            _ => return self.behave(Step::Dot, behaviour, "250 2.0.0 queued\r\n"),
        }
        self.house.accepted.lock().unwrap().push(self.seen.to.clone());
        match self.asked(Step::Kept) {
            Behaviour::Accept => self.behave(Step::Dot, behaviour, "250 2.0.0 queued\r\n"),
            other => self.behave(Step::Kept, other, "250 2.0.0 queued\r\n"),
        }
    }

    fn asked(&self, step: Step) -> Behaviour {
        (self.house.script.lock().unwrap())(step, &self.seen)
    }

    fn step(&mut self, step: Step, reply: &str) -> std::io::Result<Done> {
        let behaviour = self.asked(step);
        self.behave(step, behaviour, reply)
    }

    fn behave(&mut self, step: Step, behaviour: Behaviour, reply: &str) -> std::io::Result<Done> {
        match behaviour {
            Behaviour::Accept => {
                self.say(reply)?;
                return Ok(Done::Accepted);
            }
            Behaviour::Twice => {
                self.say(&format!("{reply}{reply}"))?;
                return Ok(Done::Accepted);
            }
            Behaviour::AndThen(more) => {
                self.say(&format!("{reply}{more}"))?;
                return Ok(Done::Accepted);
            }
            Behaviour::Later => self.say("451 4.3.0 not now\r\n")?,
            Behaviour::Never => self.say("554 5.7.1 not ever\r\n")?,
            Behaviour::Say(text) => self.say(text)?,
            Behaviour::Misplaced => {
                self.say(if step == Step::Data { "250 what data?\r\n" } else { "354 go ahead\r\n" })?;
                // Whoever takes that for a yes goes on.
                return Ok(if step < Step::Mail { Done::Accepted } else { Done::Refused });
            }
            Behaviour::Garbage => self.input.get_mut().write_all(b"\x00\xfe\xff%%!\r\n")?,
            Behaviour::LongLine => {
                let line = format!("{}{}\r\n", reply.get(..4).unwrap_or("250 "), "x".repeat(100_000));
                self.say(&line)?;
            }
            Behaviour::Endless => loop {
                self.say(&"x".repeat(10_000))?;
            },
            Behaviour::Reset => {
                let stream = self.input.get_ref().try_clone()?;
                stream.set_nonblocking(true)?;
                on_own_runtime(async {
                    let stream = tokio::net::TcpStream::from_std(stream)?;
                    stream.set_zero_linger()
                })?;
                return Ok(Done::Ended);
            }
            Behaviour::Close => return Ok(Done::Ended),
            Behaviour::Hang => {
                // Until the client has gone.
                let mut rest = Vec::new();
                self.input.get_mut().read_to_end(&mut rest)?;
                return Ok(Done::Ended);
            }
            Behaviour::Drip => {
                for byte in reply.bytes().chain(std::iter::repeat(b' ')) {
                    self.input.get_mut().write_all(&[byte])?;
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
        // A relay that said no to the conversation itself closes it.
        Ok(if step < Step::Ehlo { Done::Ended } else { Done::Refused })
    }

    fn say(&mut self, text: &str) -> std::io::Result<()> {
        self.input.get_mut().write_all(text.as_bytes())
    }
}
