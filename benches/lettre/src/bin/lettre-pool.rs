//! A stock lettre client as its documentation shows it: one transport with a pool, and as many tasks as connections, which build a message and
//! send it, one after the other.
//!
//! `lettre-pool PORT MAILS CONNECTIONS BYTES`

use std::env;
use std::error::Error;

use lettre::message::MultiPart;
use lettre::transport::smtp::PoolConfig;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let numbers = env::args().skip(1).map(|word| word.parse::<u32>()).collect::<Result<Vec<_>, _>>()?;
    let [port, n_mails, n_connections, n_bytes] = numbers[..] else {
        return Err("lettre-pool PORT MAILS CONNECTIONS BYTES".into());
    };
    let mailer = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(u16::try_from(port)?)
        .pool_config(PoolConfig::new().max_size(n_connections))
        .build();
    let html = format!("<p>{}\n", "Would you recommend us?\n".repeat(n_bytes.saturating_sub(1000) as usize / 24));
    let mut senders = JoinSet::new();
    for sender in 0..n_connections {
        let (mailer, html) = (mailer.clone(), html.clone());
        senders.spawn(async move {
            for mail in (sender..n_mails).step_by(n_connections as usize) {
                let text = "Would you recommend us?\n".to_owned();
                let message = Message::builder()
                    .from("a@shop.example".parse()?)
                    .to(format!("c{mail}@customer.example").parse()?)
                    .subject(format!("Claire, your order A-{mail}"))
                    .multipart(MultiPart::alternative_plain_html(text, html.clone()))?;
                mailer.send(message).await?;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(())
        });
    }
    while let Some(ended) = senders.join_next().await {
        ended??;
    }
    Ok(())
}
