//! Who opened which link of a mail, and with what kind of program: notes about visits, by which scanners are known. Never an address,
//! never what the program calls itself.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// One request for a page behind a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub at: DateTime<Utc>,
    pub method: HitMethod,
    pub page: HitPage,
    /// The answer that the link carries, as `recommend=yes`.
    pub answer: Option<String>,
    pub agent: AgentFamily,
}

/// How a page was asked for. The database's `hit_method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "hit_method", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HitMethod {
    Get,
    Head,
    Options,
    Post,
    /// Anything else.
    Other,
}

/// Which page was asked for. The database's `hit_page`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "hit_page", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HitPage {
    Survey,
    Thanks,
    Withdrawal,
    Unsubscribe,
}

/// What kind of program asked. The database's `agent_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "agent_family", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum AgentFamily {
    /// A browser on a desk.
    Browser,
    /// A browser on a phone or a tablet.
    Phone,
    /// Something that looks at links on behalf of others: mail filters, previews, crawlers.
    Scanner,
    /// A command or a library.
    Tool,
    /// It does not say.
    None,
    /// Something else.
    Other,
}

/// Words by which scanners and fetchers name themselves, in lower case. Mail filters after what their makers and senders' support pages
/// publish (Barracuda, Proofpoint, Mimecast, Cisco, Trend Micro, Sophos, Fortinet, Symantec, Forcepoint, Trellix, Kaspersky);
/// previews and crawlers after their documentation. Most filters call themselves a browser; those are known by what they do.
const SCANNERS: [&str; 33] = [
    "barracuda",
    "proofpoint",
    "mimecast",
    "ciscosecureemail",
    "ironport",
    "tmes",
    "trendmicro",
    "trend micro",
    "sophos",
    "fortimail",
    "fortiguard",
    "symantec",
    "messagelabs",
    "forcepoint",
    "websense",
    "trellix",
    "fireeye",
    "mcafee",
    "kaspersky",
    "checkpoint",
    "avanan",
    "safelinks",
    "microsoft office",
    "microsoft exchange",
    "msoffice",
    "urlscan",
    "virustotal",
    "headless",
    "phantomjs",
    "preview",
    "facebookexternal",
    "googleimageproxy",
    "yahoomailproxy",
];

/// Words of crawlers, which may stand inside other words.
const CRAWLERS: [&str; 4] = ["bot", "crawl", "spider", "scan"];

/// How commands and libraries begin.
const TOOLS: [&str; 16] = [
    "curl/",
    "wget/",
    "python",
    "go-http-client",
    "java/",
    "okhttp",
    "apache-httpclient",
    "jetty",
    "axios",
    "node",
    "undici",
    "ruby",
    "php",
    "libwww-perl",
    "lua-resty-http",
    "ureq",
];

impl AgentFamily {
    /// By what a request says about its program.
    pub fn of(agent: Option<&str>) -> Self {
        let agent = agent.unwrap_or_default().trim().to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| agent.contains(word));
        if agent.is_empty() {
            Self::None
        } else if has(&SCANNERS) || has(&CRAWLERS) {
            // Phones of the maker "Cubot" say so.
            if agent.contains("cubot") && !has(&SCANNERS) { Self::Phone } else { Self::Scanner }
        } else if TOOLS.iter().any(|tool| agent.starts_with(tool)) {
            Self::Tool
        } else if agent.starts_with("mozilla/") || agent.starts_with("opera/") {
            if has(&["mobile", "android", "iphone", "ipad"]) { Self::Phone } else { Self::Browser }
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families() {
        use AgentFamily::{Browser, None, Other, Phone, Scanner, Tool};
        for (agent, family) in [
            ("", None),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
                Browser,
            ),
            ("Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", Browser),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
                Phone,
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; CUBOT P80) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36",
                Phone,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/130.0.0.0 Safari/537.36",
                Scanner,
            ),
            ("Mozilla/5.0 (compatible; bingbot/2.0)", Scanner),
            ("Barracuda Sentinel (EE)", Scanner),
            ("Mozilla/4.0 (compatible; ms-office; Microsoft Office 16)", Scanner),
            (
                "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/51.0 Safari/537.36 BingPreview/1.0b",
                Scanner,
            ),
            ("Slackbot-LinkExpanding 1.0", Scanner),
            ("curl/8.5.0", Tool),
            ("python-requests/2.32.3", Tool),
            ("Lynx/2.9.0dev.12 libwww-FM/2.14", Other),
        ] {
            assert_eq!(AgentFamily::of(Some(agent)), family, "{agent}");
        }
        assert_eq!(AgentFamily::of(Option::None), None);
    }
}
