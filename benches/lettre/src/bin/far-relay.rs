//! A relay that is far away: it takes every mail and keeps none, and whatever it answers it answers so many milliseconds after it was asked.
//! What comes in one piece is answered in one piece, as over a long line.
//!
//! `far-relay MILLISECONDS [one-at-a-time]` says on stdout which port it listens on, and runs until it is ended. With the last word it offers no
//! pipelining (RFC 2920).

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, io, thread};

fn main() -> io::Result<()> {
    let away = env::args().nth(1).and_then(|word| word.parse().ok()).map(Duration::from_millis);
    let away = away.ok_or_else(|| io::Error::other("far-relay MILLISECONDS"))?;
    let offers = match env::args().nth(2).as_deref() {
        Some("one-at-a-time") => "250-far.example\r\n250 8BITMIME\r\n",
        _ => "250-far.example\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        let stream = stream?;
        // A client that goes away ends its own conversation only.
        thread::spawn(move || converse(stream, away, offers));
    }
    Ok(())
}

fn converse(mut stream: TcpStream, away: Duration, offers: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(b"220 far.example ESMTP\r\n")?;
    let (mut unread, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    let mut is_message = false;
    loop {
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Ok(());
        }
        unread.extend_from_slice(&piece[..n]);
        let mut answers = String::new();
        let mut begin = 0;
        while let Some(length) = unread[begin..].iter().position(|byte| *byte == b'\n') {
            let line = unread[begin..begin + length].trim_ascii_end();
            begin += length + 1;
            if is_message {
                if line == b"." {
                    is_message = false;
                    answers.push_str("250 2.0.0 taken\r\n");
                }
                continue;
            }
            answers.push_str(match line.first_chunk().map(|verb: &[u8; 4]| verb.to_ascii_uppercase()).as_deref() {
                Some(b"EHLO") => offers,
                Some(b"DATA") => {
                    is_message = true;
                    "354 go ahead\r\n"
                }
                Some(b"QUIT") => "221 2.0.0 bye\r\n",
                _ => "250 2.0.0 ok\r\n",
            });
        }
        unread.drain(..begin);
        if !answers.is_empty() {
            thread::sleep(away);
            stream.write_all(answers.as_bytes())?;
        }
    }
}
