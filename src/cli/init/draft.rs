//! A jobs.toml on its way: the shipped one, with answers in the place of its values and every comment where it was.

use anyhow::Context as _;

/// The text so far.
#[derive(Debug, Clone)]
pub struct Draft {
    text: String,
}

impl Draft {
    /// Begins with a text in which every key that will be set stands already, be it as a comment.
    pub fn of(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// What it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Sets a key of the first such section.
    ///
    /// # Errors
    /// When there is no such line.
    pub fn set(&mut self, section: &str, key: &str, value: &str) -> anyhow::Result<()> {
        self.write(section, key, &toml::Value::from(value).to_string())
    }

    /// The shop's key, wherever it is named.
    ///
    /// # Errors
    /// As [`Draft::set`].
    pub fn rename_shop(&mut self, key: &str) -> anyhow::Result<()> {
        let value = toml::Value::from(key).to_string();
        self.text =
            self.text.replace("\"maison\"", &value).replace("?shop=maison&", &format!("?shop={key}&"));
        Ok(())
    }

    /// Who mails come from; answers by mail go there, too.
    ///
    /// # Errors
    /// As [`Draft::set`].
    pub fn set_sender(&mut self, from: &str) -> anyhow::Result<()> {
        if self.text.contains(&format!("\nfrom = {}", toml::Value::from(from))) {
            return Ok(());
        }
        let address = from.rsplit_once('<').map_or(from, |(_, address)| address.trim_end_matches('>'));
        self.set("[[shop]]", "from", from)?;
        self.set("[[shop]]", "reply_to", address)
    }

    /// The time zone of the shop and of every schedule.
    ///
    /// # Errors
    /// Never; it is one of several that may.
    pub fn move_to_zone(&mut self, zone: &str) -> anyhow::Result<()> {
        self.text = self.text.replace("\"Europe/Paris\"", &toml::Value::from(zone).to_string());
        Ok(())
    }

    /// Where everything is kept.
    ///
    /// # Errors
    /// When it cannot stand in a path of the file.
    pub fn move_data(&mut self, folder: &str) -> anyhow::Result<()> {
        anyhow::ensure!(
            !folder.contains(|c: char| c == '"' || c == '\\' || c == '$' || c.is_control()),
            "this cannot be the name of the folder"
        );
        self.text = self.text.replace("\"./data", &format!("\"{}", folder.trim_end_matches('/')));
        Ok(())
    }

    /// Lets mails leave by a relay, `host` or `host:port`; nothing: by none.
    ///
    /// # Errors
    /// When the port is no port.
    pub fn set_relay(&mut self, relay: &str) -> anyhow::Result<()> {
        if relay.is_empty() {
            return Ok(());
        }
        let (host, port) = match relay.rsplit_once(':') {
            Some((host, port)) => (host, port.parse::<u16>().context("write it as mail.shop.example:587")?),
            None => (relay, 25),
        };
        self.set("[mail]", "transport", "smtp")?;
        self.set("[mail]", "host", host)?;
        self.write("[mail]", "port", &port.to_string())
    }

    /// Puts a value in the place of another one; its comment stays in its column where there is room.
    fn write(&mut self, section: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let start = self.text.find(&format!("\n{section}\n")).map(|at| at + 1);
        let start = start.with_context(|| format!("there is no {section}"))?;
        let end = self.text[start + 1..].find("\n[").map_or(self.text.len(), |at| start + 1 + at);
        let begins = format!("{key} = ");
        let mut at = start;
        let line = self.text[start..end]
            .split_inclusive('\n')
            .find(|line| {
                let is_it = line.strip_prefix("# ").unwrap_or(line).starts_with(&begins);
                at += if is_it { 0 } else { line.len() };
                is_it
            })
            .with_context(|| format!("there is no {key} in {section}"))?
            .trim_end();
        let mut written = format!("{begins}{value}");
        if let Some(gap) = line.find("  #") {
            let comment = line[gap..].trim_start();
            let column = line.chars().count() - comment.chars().count();
            let room = column.saturating_sub(written.chars().count()).max(3);
            written.push_str(&" ".repeat(room));
            written.push_str(comment);
        }
        self.text.replace_range(at..at + line.len(), &written);
        Ok(())
    }
}
