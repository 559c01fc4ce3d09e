//! `afterword bounces`

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::{Exit, Global, output};
use crate::invitations::bounces::mailbox::{self, Messages};
use crate::invitations::bounces::{self, BounceKind};

/// What came back by mail, as `afterword` understands it
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Say what each message is, without configuration or database
    #[command(after_help = "\
Examples:
  afterword bounces read report.eml
  afterword bounces read /var/mail/bounces --json
  afterword bounces read ~/Maildir
  formail -s < mailbox | afterword bounces read -

A file is one message, or an mbox; a folder is a Maildir (its new and cur), or a folder of messages. Kinds: hard (the address does not
take mail), soft (not now, or not this mail), delayed (still being tried), complaint, auto_reply, other. This is what the job
collect_bounces makes of them, too; what follows there depends on whether they are about a mail of ours.
Exit code: 0 done, 3 a file could not be read, the others were.")]
    Read {
        /// The files and folders; - is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
}

/// One message.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    /// Its number within the file, from 1.
    message: u64,
    kind: BounceKind,
    recipient: Option<String>,
    status: Option<String>,
    reason: String,
}

/// Runs the command.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Args, global: &Global) -> anyhow::Result<Exit> {
    let What::Read { files } = args.what;
    let mut rows = Vec::new();
    let mut exit = Exit::Done;
    for named in files {
        let outcome = if named == Path::new("-") {
            read("(standard input)", io::stdin().lock(), &mut rows).context("cannot read standard input")
        } else {
            read_path(&named, &mut rows)
        };
        if let Err(error) = outcome {
            output::say(&format!("error: {error:#}"));
            exit = Exit::Partial;
        }
    }
    if global.json {
        output::json(&rows)?;
        return Ok(exit);
    }
    let cells = rows.into_iter().map(|row| {
        [
            row.file,
            row.message.to_string(),
            row.kind.as_str().to_owned(),
            row.recipient.unwrap_or_default(),
            row.status.unwrap_or_default(),
            row.reason,
        ]
    });
    output::data(&output::table(["file", "message", "kind", "recipient", "status", "reason"], cells))?;
    Ok(exit)
}

/// A file, or all of a folder; one that cannot be read does not stop the others.
fn read_path(named: &Path, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let files = mailbox::files(named).with_context(|| format!("cannot read {}", named.display()))?;
    let mut unreadable = Vec::new();
    for path in files {
        let file = path.display().to_string();
        if let Err(error) = File::open(&path).and_then(|content| read(&file, content, rows)) {
            unreadable.push(format!("cannot read {file}: {error}"));
        }
    }
    anyhow::ensure!(unreadable.is_empty(), unreadable.join("\nerror: "));
    Ok(())
}

fn read(file: &str, content: impl Read, rows: &mut Vec<Row>) -> io::Result<()> {
    let mut messages = Messages::new(content)?;
    let mut message = 0;
    while let Some(raw) = messages.read_next()? {
        message += 1;
        let report = bounces::read(&raw.bytes);
        let finding = report.and_then(|report| report.findings.into_iter().next());
        rows.push(match finding {
            Some(finding) => Row {
                file: file.to_owned(),
                message,
                kind: finding.kind,
                recipient: finding.recipient().map(str::to_owned),
                status: finding.status.map(|status| status.to_string()),
                reason: finding.reason,
            },
            None => Row {
                file: file.to_owned(),
                message,
                kind: BounceKind::Other,
                recipient: None,
                status: None,
                reason: "this is no mail message".to_owned(),
            },
        });
    }
    Ok(())
}
