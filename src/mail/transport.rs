//! How a mail leaves: as a file, or through a conversation with a relay.
//!
//! lettre's connection is driven directly, command by command, over a stream without Nagle's delay. Its transport has no time limits
//! for reading and writing, and its pool hands out connections whose replies are off by one after a cancelled send; here every phase
//! has its own limit, and a connection with any doubt about it is thrown away. A relay that speaks when it was not asked is in doubt:
//! before each command, and before the final dot, nothing may have come that nobody asked for. Only a 2xx after the final dot is
//! success.
//!
//! A relay that takes several commands at once (RFC 2920) gets MAIL, RCPT and DATA in one piece, so that a mail takes two round trips
//! instead of four. Their answers are read one by one all the same, and the first one that is no yes ends the conversation: what the relay
//! then says to the commands behind it is heard by nobody, and no message follows.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters};
use lettre::transport::smtp::commands::{Data, Ehlo, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::config::{Smtp, Tls, Transport};

/// Where in the conversation something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// TCP, greeting, EHLO, STARTTLS.
    Connect,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA, up to the 354.
    Data,
    /// The message, before its final dot was written.
    Body,
    /// From the final dot to the answer to it.
    Final,
}

impl Phase {
    /// As it stands in the `attempt` table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Final => "final",
        }
    }
}

/// How long the relay may take, phase by phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub connect: Duration,
    pub auth: Duration,
    pub mail: Duration,
    pub rcpt: Duration,
    pub data: Duration,
    /// For the relay to take the message, up to its final dot.
    pub body: Duration,
    /// From the beginning of the message to the answer to its final dot.
    pub last: Duration,
    /// For the answer to QUIT, with which nothing is decided any more.
    pub quit: Duration,
}

impl Default for Limits {
    /// After RFC 5321, section 4.5.3.2. Connecting is shortened: there is always a next run.
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            connect: minutes(1),
            auth: minutes(2),
            mail: minutes(5),
            rcpt: minutes(5),
            data: minutes(2),
            body: minutes(3),
            last: minutes(10),
            quit: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// The same for every phase.
    pub fn all(limit: Duration) -> Self {
        Self {
            connect: limit,
            auth: limit,
            mail: limit,
            rcpt: limit,
            data: limit,
            body: limit,
            last: limit,
            quit: limit,
        }
    }

    fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Connect => self.connect,
            Phase::Auth => self.auth,
            Phase::Mail => self.mail,
            Phase::Rcpt => self.rcpt,
            Phase::Data => self.data,
            Phase::Body => self.body,
            Phase::Final => self.last,
        }
    }
}

/// What went wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub phase: Phase,
    /// The relay's reply; `None`: it gave none (closed, silent, garbage).
    pub reply: Option<Reply>,
    /// In words, without addresses.
    pub text: String,
}

/// What the relay said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// SMTP reply code.
    pub code: u16,
    /// Enhanced status code (RFC 3463), when the relay gave one: class, subject, detail.
    pub enhanced: Option<(u8, u16, u16)>,
}

impl Fault {
    fn io(phase: Phase, text: impl Into<String>) -> Self {
        Self { phase, reply: None, text: text.into() }
    }

    fn smtp(phase: Phase, error: &lettre::transport::smtp::Error) -> Self {
        let said = error.source().map(ToString::to_string).unwrap_or_default();
        let reply = error.status().map(|code| {
            let code = u16::from(code);
            Reply { code, enhanced: enhanced_code(code, &said) }
        });
        Self { phase, reply, text: without_addresses(&error.to_string()) }
    }

    fn timed_out(phase: Phase, limit: Duration) -> Self {
        Self::io(phase, format!("no answer within {} s", limit.as_secs_f32()))
    }
}

/// An open way out. One mail at a time; after any fault it is thrown away.
pub enum Connection {
    /// The folder the .eml files go to.
    File(PathBuf),
    /// A relay that greeted us.
    Smtp(Box<Conversation>),
}

/// A conversation with a relay, in which each says something when it is its turn.
pub struct Conversation {
    connection: AsyncSmtpConnection,
    limits: Limits,
    /// Whether the relay takes several commands at once.
    is_pipelining: bool,
}

impl Connection {
    /// Opens the configured way out.
    ///
    /// # Errors
    /// A fault in [`Phase::Connect`] or [`Phase::Auth`]: the relay's, never a recipient's.
    pub async fn open(transport: &Transport, outbox: &Path) -> Result<Self, Fault> {
        match transport {
            Transport::File => {
                tokio::fs::create_dir_all(outbox).await.map_err(|error| {
                    Fault::io(Phase::Connect, format!("cannot make {}: {error}", outbox.display()))
                })?;
                Ok(Self::File(outbox.to_owned()))
            }
            Transport::Smtp(relay) => {
                let limits = relay.limits;
                let connection = timeout(limits.connect, connect(relay))
                    .await
                    .map_err(|_| Fault::timed_out(Phase::Connect, limits.connect))??;
                let mut conversation = Conversation { connection, limits, is_pipelining: false };
                conversation.is_pipelining = conversation.offers_pipelining().await?;
                conversation.login(relay).await?;
                Ok(Self::Smtp(Box::new(conversation)))
            }
        }
    }

    /// Everything before the message itself: MAIL, RCPT and DATA, up to the relay's 354. Nothing was sent yet when this fails.
    ///
    /// # Errors
    /// A fault in [`Phase::Mail`], [`Phase::Rcpt`] or [`Phase::Data`].
    pub async fn prepare(&mut self, from: &Address, to: &Address) -> Result<(), Fault> {
        let Self::Smtp(conversation) = self else { return Ok(()) };
        let mut parameters = Vec::new();
        let needs_utf8 = |address: &Address| !address.to_string().is_ascii();
        let offers = |extension| conversation.connection.server_info().supports_feature(extension);
        if needs_utf8(from) || needs_utf8(to) {
            if !offers(Extension::SmtpUtfEight) {
                let text = "the relay does not take addresses with such characters (SMTPUTF8)".to_owned();
                let reply = Some(Reply { code: 553, enhanced: Some((5, 6, 7)) });
                return Err(Fault { phase: Phase::Rcpt, reply, text });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if offers(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        let mail = Mail::new(Some(from.clone()), parameters);
        let rcpt = Rcpt::new(to.clone(), Vec::new());
        let first = if conversation.is_pipelining { format!("{mail}{rcpt}{Data}") } else { mail.to_string() };
        success(Phase::Mail, &conversation.command(Phase::Mail, first).await?)?;
        success(Phase::Rcpt, &conversation.following(Phase::Rcpt, rcpt).await?)?;
        let go = conversation.following(Phase::Data, Data).await?;
        if u16::from(go.code()) == 354 { Ok(()) } else { Err(unexpected(Phase::Data, &go)) }
    }

    /// The message and its final dot. `name` is the file's, where a file is written.
    ///
    /// # Errors
    /// A fault in [`Phase::Body`]: the final dot was not written, and the relay has nothing. A fault in [`Phase::Final`] with a reply:
    /// the relay refused. One without: nobody can know.
    pub async fn transmit(&mut self, message: &[u8], name: &str) -> Result<(), Fault> {
        match self {
            Self::File(folder) => write_file(folder, name, message).await.map_err(|error| {
                Fault::io(Phase::Body, format!("cannot write {}: {error}", folder.display()))
            }),
            Self::Smtp(conversation) => conversation.transmit(message).await,
        }
    }

    /// Says goodbye. What the relay answers no longer matters.
    pub async fn close(self) {
        if let Self::Smtp(mut conversation) = self {
            // The mail is settled; a relay that does not answer QUIT is not worth a word.
            let _ = timeout(conversation.limits.quit, conversation.connection.quit()).await;
        }
    }
}

impl Conversation {
    async fn login(&mut self, relay: &Smtp) -> Result<(), Fault> {
        let Some(credentials) = &relay.credentials else { return Ok(()) };
        let credentials = Credentials::new(credentials.username.clone(), credentials.password.clone());
        self.listen(Phase::Auth)?;
        let reply = timeout(self.limits.auth, self.connection.auth(DEFAULT_MECHANISMS, &credentials))
            .await
            .map_err(|_| Fault::timed_out(Phase::Auth, self.limits.auth))?
            .map_err(|error| Fault::smtp(Phase::Auth, &error))?;
        success(Phase::Auth, &reply)
    }

    async fn command(&mut self, phase: Phase, command: impl std::fmt::Display) -> Result<Response, Fault> {
        self.listen(phase)?;
        self.ask(phase, command).await
    }

    async fn ask(&mut self, phase: Phase, command: impl std::fmt::Display) -> Result<Response, Fault> {
        let limit = self.limits.of(phase);
        timeout(limit, self.connection.command(command))
            .await
            .map_err(|_| Fault::timed_out(phase, limit))?
            .map_err(|error| Fault::smtp(phase, &error))
    }

    /// The answer to a command, which is sent now unless it went along with the first.
    async fn following(&mut self, phase: Phase, command: impl std::fmt::Display) -> Result<Response, Fault> {
        if !self.is_pipelining {
            return self.command(phase, command).await;
        }
        let limit = self.limits.of(phase);
        timeout(limit, self.connection.read_response())
            .await
            .map_err(|_| Fault::timed_out(phase, limit))?
            .map_err(|error| Fault::smtp(phase, &error))
    }

    /// Asks once more what the relay offers, because lettre keeps of its answer only what lettre itself makes use of. Some relays say that
    /// they were greeted already (503), which changes nothing about the conversation (RFC 5321, section 4.1.4): they get their commands
    /// one by one. One that means to refuse us says so again at the next command.
    async fn offers_pipelining(&mut self) -> Result<bool, Fault> {
        // Apart from the question, because a refusal that comes before it is no answer to it.
        self.listen(Phase::Connect)?;
        match self.ask(Phase::Connect, Ehlo::new(ClientId::default())).await {
            Ok(offers) => {
                success(Phase::Connect, &offers)?;
                Ok(offers.message().any(|line| line.trim().eq_ignore_ascii_case("PIPELINING")))
            }
            Err(Fault { reply: Some(Reply { code: 500.., .. }), .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    async fn transmit(&mut self, message: &[u8]) -> Result<(), Fault> {
        // An answer that is here before its question would be taken for the answer to the final dot.
        self.listen(Phase::Body)?;
        let limits = self.limits;
        // The flag is set when lettre asks for the part after the last: everything before the dot was then written.
        let at_the_dot = AtomicBool::new(false);
        let parts = std::iter::once(message).chain(std::iter::from_fn(|| {
            at_the_dot.store(true, Ordering::Relaxed);
            None
        }));
        let mut sending = pin!(self.connection.message_iter(parts));
        let phase = || if at_the_dot.load(Ordering::Relaxed) { Phase::Final } else { Phase::Body };
        let mut answer = timeout(limits.body, &mut sending).await;
        if answer.is_err() && phase() == Phase::Final {
            answer = timeout(limits.last.saturating_sub(limits.body), &mut sending).await;
        }
        match answer {
            Err(_) => Err(Fault::timed_out(phase(), limits.of(phase()))),
            Ok(Err(error)) => Err(Fault::smtp(phase(), &error)),
            Ok(Ok(reply)) => success(Phase::Final, &reply),
        }
    }

    /// Whether it is our turn: a relay that has said something that nobody asked for, or has closed the connection, is not to be
    /// asked anything more, because its answers may belong to other questions. (Half a line that arrived just now is lost by this, and
    /// what is left of it is then no reply.)
    fn listen(&mut self, phase: Phase) -> Result<(), Fault> {
        match self.connection.read_response().now_or_never() {
            None => Ok(()),
            Some(Ok(reply)) => {
                Err(Fault::io(phase, format!("the relay said {} before it was asked", reply.code())))
            }
            Some(Err(error)) => Err(Fault::smtp(phase, &error)),
        }
    }
}

async fn connect(relay: &Smtp) -> Result<AsyncSmtpConnection, Fault> {
    let hello = ClientId::default();
    let tls = || {
        // Encryption that is only taken where it is offered protects from listeners, not from an impostor, who would just not offer it;
        // so a relay's home-made certificate is as good as none (RFC 7435). A password goes only to a relay that is known.
        let is_anybody = relay.tls == Tls::Opportunistic && relay.credentials.is_none();
        TlsParameters::builder(relay.host.clone())
            .dangerous_accept_invalid_certs(is_anybody)
            .dangerous_accept_invalid_hostnames(is_anybody)
            .build()
            .map_err(|error| Fault::io(Phase::Connect, format!("TLS cannot be set up: {error}")))
    };
    let smtp = |error: lettre::transport::smtp::Error| Fault::smtp(Phase::Connect, &error);
    let stream = TcpStream::connect((relay.host.as_str(), relay.port))
        .await
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| Fault::io(Phase::Connect, format!("{}:{}: {error}", relay.host, relay.port)))?;
    let wire = Box::new(Wire { stream, unanswered: 0 });
    if relay.tls == Tls::Implicit {
        let stream = Encrypted::new(wire, tls()?).await.map_err(smtp)?;
        return AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await.map_err(smtp);
    }
    let mut connection = AsyncSmtpConnection::connect_with_transport(wire, &hello).await.map_err(smtp)?;
    match relay.tls {
        Tls::None | Tls::Implicit => {}
        Tls::Opportunistic if !connection.can_starttls() => {}
        Tls::Opportunistic | Tls::Required => connection.starttls(tls()?, &hello).await.map_err(smtp)?,
    }
    Ok(connection)
}

/// So many bytes a relay may send without hearing from us; lettre gives up at 100,000 once it has a whole line, but would wait for the
/// line's end for ever.
const LONGEST_ANSWER: usize = 200_000;

/// The connection to the relay, which ends when the relay does not stop talking.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    /// Bytes that came since we last said something.
    unanswered: usize,
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unanswered > LONGEST_ANSWER {
            return Poll::Ready(Err(io::Error::other("the relay's answer has no end")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.unanswered += buffer.filled().len() - before;
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unanswered = 0;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A wire that is encrypted from the first byte. lettre's own way to one makes the socket itself, with Nagle's delay and without an
/// end to answers; its stream can be made otherwise, but then speaks the other kind of `AsyncRead`.
#[derive(Debug)]
#[expect(deprecated, reason = "lettre's only stream that can be encrypted before it speaks")]
struct Encrypted(Compat<lettre::transport::smtp::client::AsyncNetworkStream>);

impl Encrypted {
    #[expect(deprecated, reason = "as above")]
    async fn new(wire: Box<Wire>, tls: TlsParameters) -> Result<Self, lettre::transport::smtp::Error> {
        let mut stream = lettre::transport::smtp::client::AsyncNetworkStream::use_existing_tokio1(wire);
        stream.upgrade_tls(tls).await?;
        Ok(Self(stream.compat()))
    }
}

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// lettre takes a 3xx for success, so the code is looked at here.
fn success(phase: Phase, reply: &Response) -> Result<(), Fault> {
    if (200..300).contains(&u16::from(reply.code())) { Ok(()) } else { Err(unexpected(phase, reply)) }
}

/// A reply that has no place here leaves the conversation in doubt, so it counts as none.
fn unexpected(phase: Phase, reply: &Response) -> Fault {
    Fault::io(phase, format!("answered {} where that makes no sense", reply.code()))
}

/// Written beside its place and renamed, so that a reader never finds half a mail and a second try replaces the first. For its owner
/// alone: an address stands in it, and a link that answers for its owner.
async fn write_file(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.part"));
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished).await?;
    file.write_all(message).await?;
    file.sync_all().await?;
    tokio::fs::rename(&unfinished, folder.join(format!("{name}.eml"))).await
}

/// The `x.y.z` that a reply's text begins with (RFC 2034); it counts only when its class is the reply's.
fn enhanced_code(code: u16, text: &str) -> Option<(u8, u16, u16)> {
    let mut parts = text.split_whitespace().next()?.split('.');
    let class = parts.next()?.parse().ok().filter(|class| u16::from(*class) == code / 100)?;
    let (subject, detail) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (parts.next().is_none() && subject < 1000 && detail < 1000).then_some((class, subject, detail))
}

/// Relays repeat the recipient in their replies; we do not keep it.
fn without_addresses(text: &str) -> String {
    let kept: Vec<&str> =
        text.split_whitespace().map(|word| if word.contains('@') { "<address>" } else { word }).collect();
    kept.join(" ").chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// In which pieces a relay that offers this hears of one mail, up to the 354.
    async fn pieces(offers: &'static str) -> Vec<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 relay.example\r\n").await.unwrap();
            let (mut pieces, mut piece) = (Vec::new(), [0; 4096]);
            loop {
                let n = stream.read(&mut piece).await.unwrap();
                let said = String::from_utf8(piece[..n].to_vec()).unwrap();
                let mut answers = String::new();
                for command in said.lines() {
                    answers.push_str(match &command[..4] {
                        "EHLO" => offers,
                        "DATA" => "354 go ahead\r\n",
                        _ => "250 ok\r\n",
                    });
                }
                stream.write_all(answers.as_bytes()).await.unwrap();
                if !said.starts_with("EHLO") {
                    pieces.push(said.lines().map(|command| &command[..4]).collect::<Vec<_>>().join(" "));
                }
                if said.contains("DATA") {
                    return pieces;
                }
            }
        });
        let limits = Limits::all(Duration::from_secs(60));
        let relay_to = Smtp { host: "127.0.0.1".to_owned(), port, tls: Tls::None, credentials: None, limits };
        let mut connection =
            Connection::open(&Transport::Smtp(Box::new(relay_to)), Path::new("")).await.unwrap();
        let address = |text: &str| text.parse::<Address>().unwrap();
        connection.prepare(&address("a@shop.example"), &address("b@customer.example")).await.unwrap();
        relay.await.unwrap()
    }

    #[tokio::test]
    async fn commands_go_in_one_piece_where_the_relay_takes_that() {
        assert_eq!(
            pieces("250-relay.example\r\n250-Pipelining\r\n250 8BITMIME\r\n").await,
            ["MAIL RCPT DATA"]
        );
        assert_eq!(pieces("250-relay.example\r\n250 8BITMIME\r\n").await, ["MAIL", "RCPT", "DATA"]);
    }

    #[test]
    fn enhanced_codes() {
        assert_eq!(enhanced_code(550, "5.1.1 no such user"), Some((5, 1, 1)));
        assert_eq!(enhanced_code(450, "4.7.1 greylisted, see 192.0.2.1"), Some((4, 7, 1)));
        assert_eq!(enhanced_code(550, "mailbox of 192.0.2.17 is full"), None);
        assert_eq!(enhanced_code(550, "refused by version 5.1.1 of our rules"), None, "not at its place");
        assert_eq!(enhanced_code(450, "5.1.1 no such user"), None, "a later that says never");
        assert_eq!(enhanced_code(550, "192.0.2.1 is not welcome"), None);
        assert_eq!(enhanced_code(550, ""), None);
    }

    #[test]
    fn addresses_do_not_survive() {
        let kept = without_addresses("550 5.1.1 <canary@shop.example>: no such user\r\n");
        assert_eq!(kept, "550 5.1.1 <address> no such user");
    }
}
