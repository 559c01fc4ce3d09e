//! The program's own format: everything that may be published, under the names this project uses.

use chrono::{DateTime, SecondsFormat, Utc};

use super::ExportFormat;
use crate::testimonials::gate::{Publishable, Testimonial};

pub(super) const FORMAT: ExportFormat = ExportFormat {
    name: "generic",
    description: "every column there is, for programs: UTF-8, commas, RFC 4180",
    columns: &[
        "testimonial_id",
        "shop",
        "rating",
        "recommend",
        "comment",
        "display_name",
        "country",
        "language",
        "product_ids",
        "experience_date",
        "submitted_at",
        "published_at",
        "verified",
        "consent_version",
        "reply",
    ],
    record,
};

fn record(publishable: &Publishable) -> Vec<String> {
    let Testimonial {
        id,
        shop,
        rating,
        recommend,
        comment,
        display_name,
        country,
        language,
        product_ids,
        experience_date,
        submitted_at,
        published_at,
        consent_version,
        reply,
    } = publishable.testimonial();
    vec![
        id.to_string(),
        shop.clone(),
        rating.map(|rating| rating.to_string()).unwrap_or_default(),
        recommend.clone().unwrap_or_default(),
        comment.clone(),
        display_name.clone(),
        country.clone().unwrap_or_default(),
        language.clone(),
        product_ids.join("|"),
        experience_date.to_string(),
        moment(*submitted_at),
        moment(*published_at),
        // The gate lets nothing through that does not belong to an order.
        "true".to_owned(),
        consent_version.clone(),
        reply.as_ref().map(|reply| reply.text.clone()).unwrap_or_default(),
    ]
}

fn moment(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}
