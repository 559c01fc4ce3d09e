//! A browser's part of HTTP: fetch a page, send a form.

use std::time::Duration;

/// What came back.
#[derive(Debug)]
pub struct Page {
    pub url: String,
    pub status: u16,
    pub body: String,
}

impl Page {
    /// An address without its query.
    pub fn without_query(url: &str) -> String {
        url.split('?').next().unwrap_or_default().to_owned()
    }

    /// These fields together with the hidden ones of the page's form.
    pub fn with_hidden(&self, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let attribute = |tag: &str, name: &str| {
            let value = tag.split_once(&format!("{name}=\""))?.1.split_once('"')?.0;
            Some(value.to_owned())
        };
        let hidden = self.body.split("<input type=\"hidden\"").skip(1).filter_map(|rest| {
            let tag = rest.split('>').next()?;
            Some((attribute(tag, "name")?, attribute(tag, "value")?))
        });
        hidden.chain(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))).collect()
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(20)))
        .http_status_as_error(false)
        .build()
        .into()
}

/// Fetches a page.
pub fn get(url: &str) -> Page {
    let mut response = agent().get(url).call().unwrap();
    Page {
        url: url.to_owned(),
        status: response.status().as_u16(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}

/// Sends a form; follows the answer to the page it leads to.
pub fn post(url: &str, fields: &[(String, String)]) -> Page {
    let form = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut response = agent().post(url).send_form(form).unwrap();
    Page {
        url: url.to_owned(),
        status: response.status().as_u16(),
        body: response.body_mut().read_to_string().unwrap(),
    }
}
