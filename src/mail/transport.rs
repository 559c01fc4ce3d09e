//! How a mail leaves: as a file, or through a conversation with a relay.
//!
//! lettre's connection is driven directly, command by command, over a stream without Nagle's delay. Its transport has no time limits
//! for reading and writing, and its pool hands out connections whose replies are off by one after a cancelled send; here every phase
//! has its own limit, and a connection with any doubt about it is thrown away. Only a 2xx after the final dot is success.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

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

    /// How long the relay may take, after RFC 5321, section 4.5.3.2. Connecting is shortened: there is always a next run.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Connect => 60,
            Self::Auth | Self::Data => 2 * 60,
            Self::Mail | Self::Rcpt => 5 * 60,
            Self::Body | Self::Final => 10 * 60,
        })
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
        let text = without_addresses(&error.to_string());
        let reply = error.status().map(|code| Reply { code: code.into(), enhanced: enhanced_code(&text) });
        Self { phase, reply, text }
    }

    fn timed_out(phase: Phase) -> Self {
        Self::io(phase, format!("no answer within {} s", phase.limit().as_secs()))
    }
}

/// An open way out. One mail at a time; after any fault it is thrown away.
pub enum Connection {
    /// The folder the .eml files go to.
    File(PathBuf),
    /// A relay that greeted us.
    Smtp(Box<AsyncSmtpConnection>),
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
                let connection = timeout(Phase::Connect.limit(), connect(relay))
                    .await
                    .map_err(|_| Fault::timed_out(Phase::Connect))??;
                Ok(Self::Smtp(Box::new(login(connection, relay).await?)))
            }
        }
    }

    /// Everything before the message itself: MAIL, RCPT and DATA, up to the relay's 354. Nothing was sent yet when this fails.
    ///
    /// # Errors
    /// A fault in [`Phase::Mail`], [`Phase::Rcpt`] or [`Phase::Data`].
    pub async fn prepare(&mut self, from: &Address, to: &Address) -> Result<(), Fault> {
        let Self::Smtp(connection) = self else { return Ok(()) };
        let mut parameters = Vec::new();
        let needs_utf8 = |address: &Address| !address.to_string().is_ascii();
        if needs_utf8(from) || needs_utf8(to) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let text = "the relay does not take addresses with such characters (SMTPUTF8)".to_owned();
                let reply = Some(Reply { code: 553, enhanced: Some((5, 6, 7)) });
                return Err(Fault { phase: Phase::Rcpt, reply, text });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        command(connection, Phase::Mail, Mail::new(Some(from.clone()), parameters))
            .await
            .and_then(success(Phase::Mail))?;
        command(connection, Phase::Rcpt, Rcpt::new(to.clone(), Vec::new()))
            .await
            .and_then(success(Phase::Rcpt))?;
        let go = command(connection, Phase::Data, Data).await?;
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
            Self::Smtp(connection) => {
                // The flag is set when lettre asks for the part after the last: everything before the dot was then written.
                let at_the_dot = AtomicBool::new(false);
                let parts = std::iter::once(message).chain(std::iter::from_fn(|| {
                    at_the_dot.store(true, Ordering::Relaxed);
                    None
                }));
                let answer = timeout(Phase::Final.limit(), connection.message_iter(parts)).await;
                let phase = if at_the_dot.load(Ordering::Relaxed) { Phase::Final } else { Phase::Body };
                match answer {
                    Err(_) => Err(Fault::timed_out(phase)),
                    Ok(Err(error)) => Err(Fault::smtp(phase, &error)),
                    Ok(Ok(reply)) => success(Phase::Final)(reply),
                }
            }
        }
    }

    /// Says goodbye. What the relay answers no longer matters.
    pub async fn close(self) {
        if let Self::Smtp(mut connection) = self {
            // The mail is settled; a relay that does not answer QUIT is not worth a word.
            let _ = timeout(Duration::from_secs(5), connection.quit()).await;
        }
    }
}

async fn connect(relay: &Smtp) -> Result<AsyncSmtpConnection, Fault> {
    let hello = ClientId::default();
    let tls = || {
        TlsParameters::new(relay.host.clone())
            .map_err(|error| Fault::io(Phase::Connect, format!("TLS cannot be set up: {error}")))
    };
    let server = (relay.host.as_str(), relay.port);
    let smtp = |error: lettre::transport::smtp::Error| Fault::smtp(Phase::Connect, &error);
    if relay.tls == Tls::Implicit {
        let limit = Some(Phase::Connect.limit());
        return AsyncSmtpConnection::connect_tokio1(server, limit, &hello, Some(tls()?), None)
            .await
            .map_err(smtp);
    }
    let stream = TcpStream::connect(server)
        .await
        .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
        .map_err(|error| Fault::io(Phase::Connect, format!("{}:{}: {error}", relay.host, relay.port)))?;
    let mut connection =
        AsyncSmtpConnection::connect_with_transport(Box::new(stream), &hello).await.map_err(smtp)?;
    match relay.tls {
        Tls::None | Tls::Implicit => {}
        Tls::Opportunistic if !connection.can_starttls() => {}
        Tls::Opportunistic | Tls::Required => connection.starttls(tls()?, &hello).await.map_err(smtp)?,
    }
    Ok(connection)
}

async fn login(mut connection: AsyncSmtpConnection, relay: &Smtp) -> Result<AsyncSmtpConnection, Fault> {
    if let Some(credentials) = &relay.credentials {
        let credentials = Credentials::new(credentials.username.clone(), credentials.password.clone());
        timeout(Phase::Auth.limit(), connection.auth(DEFAULT_MECHANISMS, &credentials))
            .await
            .map_err(|_| Fault::timed_out(Phase::Auth))?
            .map_err(|error| Fault::smtp(Phase::Auth, &error))
            .and_then(success(Phase::Auth))?;
    }
    Ok(connection)
}

async fn command(
    connection: &mut AsyncSmtpConnection,
    phase: Phase,
    command: impl std::fmt::Display,
) -> Result<Response, Fault> {
    timeout(phase.limit(), connection.command(command))
        .await
        .map_err(|_| Fault::timed_out(phase))?
        .map_err(|error| Fault::smtp(phase, &error))
}

/// lettre takes a 3xx for success, so the code is looked at here.
fn success(phase: Phase) -> impl FnOnce(Response) -> Result<(), Fault> {
    move |reply| {
        if (200..300).contains(&u16::from(reply.code())) { Ok(()) } else { Err(unexpected(phase, &reply)) }
    }
}

/// A reply that has no place here leaves the conversation in doubt, so it counts as none.
fn unexpected(phase: Phase, reply: &Response) -> Fault {
    Fault::io(phase, format!("answered {} where that makes no sense", reply.code()))
}

/// Written beside its place and renamed, so that a reader never finds half a mail and a second try replaces the first.
async fn write_file(folder: &Path, name: &str, message: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(format!(".{name}.part"));
    let mut file = tokio::fs::File::create(&unfinished).await?;
    file.write_all(message).await?;
    file.sync_all().await?;
    tokio::fs::rename(&unfinished, folder.join(format!("{name}.eml"))).await
}

/// The first `x.y.z` with a class of 2, 4 or 5 in a reply's text.
fn enhanced_code(text: &str) -> Option<(u8, u16, u16)> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
        let mut parts = word.split('.');
        let class = parts.next()?.parse().ok().filter(|class| matches!(class, 2 | 4 | 5))?;
        let (subject, detail) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (parts.next().is_none() && subject < 1000 && detail < 1000).then_some((class, subject, detail))
    })
}

/// Relays repeat the recipient in their replies; we do not keep it.
fn without_addresses(text: &str) -> String {
    let kept: Vec<&str> =
        text.split_whitespace().map(|word| if word.contains('@') { "<address>" } else { word }).collect();
    kept.join(" ").chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes() {
        assert_eq!(enhanced_code("permanent error (550): 5.1.1 no such user"), Some((5, 1, 1)));
        assert_eq!(enhanced_code("4.7.1 greylisted, see 192.0.2.1"), Some((4, 7, 1)));
        assert_eq!(enhanced_code("mailbox of 192.0.2.17 is full"), None);
        assert_eq!(enhanced_code("no code here"), None);
    }

    #[test]
    fn addresses_do_not_survive() {
        let kept = without_addresses("550 5.1.1 <canary@shop.example>: no such user\r\n");
        assert_eq!(kept, "550 5.1.1 <address> no such user");
    }
}
