//! Which of a file's columns is what. A format is either built in (a file here and a line in [`ORDER_FORMATS`]) or described in
//! jobs.toml (`[order_format.<name>]`); both become an [`OrderFormat`], which is bound to a file's header.

mod generic;
mod magento;
mod prestashop;
mod shopify;
mod woocommerce;

use std::collections::BTreeMap;

use crate::config::{OrderMapping, TextFormat};
use crate::import::ImportError;
use crate::import::header::{Search, one_of, unknown_format};
use crate::nearest::did_you_mean;
use crate::orders::OrderStatus;

/// The columns an order file can fill.
pub const ORDER_COLUMNS: &[&str] = &[
    "order_id",
    "email",
    "ordered_at",
    "fulfilled_at",
    "cancelled_at",
    "status",
    "first_name",
    "last_name",
    "name",
    "locale",
    "country",
    "currency",
    "total",
    "items",
    "consent",
];
/// Those without which an order is none.
pub const REQUIRED_ORDER_COLUMNS: &[&str] = &["order_id", "email", "ordered_at"];

/// A format that is built in.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its name after `--format`.
    pub key: &'static str,
    /// One line about it, for the help.
    pub about: &'static str,
    /// A small file in this format; its customers are made up.
    pub sample: &'static str,
    /// How it is read.
    pub format: fn() -> OrderFormat,
    /// What to do about a file of this platform that lacks what is needed, recognised by its header.
    pub advice: fn(&[String]) -> Option<&'static str>,
}

/// The formats that are built in, in the order `auto` tries them.
pub const ORDER_FORMATS: &[BuiltIn] =
    &[generic::FORMAT, shopify::FORMAT, woocommerce::FORMAT, magento::FORMAT, prestashop::FORMAT];

/// How a file of orders is read.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderFormat {
    /// As it is reported and recorded.
    pub name: String,
    /// How the file is written.
    pub text: TextFormat,
    /// Our column (one of [`ORDER_COLUMNS`]) = theirs: the first of these names that is in the header.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Ours that must be there; the others may be missing.
    pub required: Vec<String>,
    /// Attribute = their column.
    pub attributes: BTreeMap<String, String>,
    /// Whether each column `attributes.<name>` is an attribute.
    pub open_attributes: bool,
    /// Whether a column that is none of the above is an error, because it must be a typing mistake.
    pub closed: bool,
    /// Their status = ours; `"*"` stands for all others. Empty: they write ours.
    pub status: BTreeMap<String, OrderStatus>,
    /// Whether a status that is not named says nothing (then the delivery date speaks), and is not an error.
    pub vague_status: bool,
    /// Whether an order has a row for each of its items: rows that name the order of the row before add their items to it.
    pub row_per_item: bool,
    /// The column of the items' names, for rows whose `items` are empty.
    pub item_names: Vec<String>,
    /// The column of the way of payment, where the platform's test orders show it.
    pub payment: Vec<String>,
}

/// A built-in format of a platform: these columns, all others left alone.
fn platform(
    name: &str,
    columns: &[(&str, &[&str])],
    required: &[&str],
    status: &[(&str, OrderStatus)],
) -> OrderFormat {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    OrderFormat {
        name: name.to_owned(),
        text: TextFormat::default(),
        columns: columns.iter().map(|(ours, theirs)| ((*ours).to_owned(), owned(theirs))).collect(),
        required: owned(required),
        attributes: BTreeMap::new(),
        open_attributes: false,
        closed: false,
        status: status.iter().map(|(theirs, ours)| ((*theirs).to_owned(), *ours)).collect(),
        vague_status: false,
        row_per_item: false,
        item_names: Vec::new(),
        payment: Vec::new(),
    }
}

/// What to do about a file that fits no format, if it is known which platform wrote it.
pub fn advice(header: &[String]) -> Option<&'static str> {
    ORDER_FORMATS.iter().find_map(|format| (format.advice)(header))
}

impl OrderFormat {
    /// The format that jobs.toml describes under this name. All columns it names must be there.
    pub fn mapped(name: &str, mapping: &OrderMapping) -> Self {
        Self {
            name: name.to_owned(),
            text: mapping.text.clone(),
            columns: mapping
                .columns
                .iter()
                .map(|(ours, theirs)| (ours.clone(), vec![theirs.clone()]))
                .collect(),
            required: mapping.columns.keys().cloned().collect(),
            attributes: mapping.attributes.clone(),
            open_attributes: false,
            closed: false,
            status: mapping.status.clone(),
            vague_status: false,
            row_per_item: false,
            item_names: Vec::new(),
            payment: Vec::new(),
        }
    }

    /// Takes other columns for some of ours: `order_id`, `attributes.city`. A file that needs this is somebody else's: its other
    /// columns are left alone.
    ///
    /// # Errors
    /// When there is no such column of ours.
    pub fn with_columns(mut self, columns: &BTreeMap<String, String>) -> Result<Self, String> {
        for (ours, theirs) in columns {
            if let Some(attribute) = ours.strip_prefix("attributes.").filter(|name| !name.is_empty()) {
                self.attributes.insert(attribute.to_owned(), theirs.clone());
            } else if ORDER_COLUMNS.contains(&ours.as_str()) {
                self.columns.insert(ours.clone(), vec![theirs.clone()]);
                self.required.push(ours.clone());
            } else {
                let hint = did_you_mean(ours, ORDER_COLUMNS.iter().copied())
                    .unwrap_or_else(|| format!("the columns are {}", ORDER_COLUMNS.join(", ")));
                return Err(format!("there is no column {ours:?} to fill; {hint}"));
            }
            self.closed = false;
        }
        Ok(self)
    }

    /// Whether a header has half of what must be there, so that the file may be meant to be in this format; our own always may.
    fn resembles(&self, header: &[String]) -> bool {
        let is_there = |ours: &&String| {
            self.columns.get(*ours).is_some_and(|names| names.iter().any(|name| header.contains(name)))
        };
        self.name == generic::FORMAT.key
            || 2 * self.required.iter().filter(is_there).count() >= self.required.len()
    }

    /// Finds the columns in a header.
    ///
    /// # Errors
    /// Says everything that does not fit, with the nearest column there is.
    pub fn bind(&self, header: &[String]) -> Result<OrderColumns, String> {
        let mut search = Search::new(header);
        let mut find = |ours: &str| {
            let required = self.required.iter().any(|column| column == ours);
            let names = self.columns.get(ours)?;
            search.find(ours, present(names, header)?, required)
        };
        let (order_id, email, ordered_at) = (find("order_id"), find("email"), find("ordered_at"));
        let mut columns = OrderColumns {
            order_id: order_id.unwrap_or_default(),
            email: email.unwrap_or_default(),
            ordered_at: ordered_at.unwrap_or_default(),
            fulfilled_at: find("fulfilled_at"),
            cancelled_at: find("cancelled_at"),
            status: find("status"),
            first_name: find("first_name"),
            last_name: find("last_name"),
            name: find("name"),
            locale: find("locale"),
            country: find("country"),
            currency: find("currency"),
            total: find("total"),
            items: find("items"),
            consent: find("consent"),
            item_names: present(&self.item_names, header).and_then(|name| search.find("items", name, false)),
            payment: present(&self.payment, header).and_then(|name| search.find("payment", name, false)),
            attributes: Vec::new(),
        };
        for (name, theirs) in &self.attributes {
            if let Some(column) = search.find(&format!("attributes.{name}"), theirs, true) {
                columns.attributes.push((name.clone(), column));
            }
        }
        if self.open_attributes {
            for theirs in header {
                if let Some(name) = theirs.strip_prefix("attributes.").filter(|name| !name.is_empty())
                    && let Some(column) = search.find(theirs, theirs, true)
                {
                    columns.attributes.push((name.to_owned(), column));
                }
            }
        }
        search.finish(self.closed.then_some(ORDER_COLUMNS))?;
        Ok(columns)
    }
}

/// The first of these names that is in the header; where none is, the first, to be missed.
fn present<'n>(names: &'n [String], header: &[String]) -> Option<&'n str> {
    names.iter().find(|name| header.contains(name)).or(names.first()).map(String::as_str)
}

/// Where in a row the columns are, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderColumns {
    pub order_id: usize,
    pub email: usize,
    pub ordered_at: usize,
    pub fulfilled_at: Option<usize>,
    pub cancelled_at: Option<usize>,
    pub status: Option<usize>,
    pub first_name: Option<usize>,
    pub last_name: Option<usize>,
    /// First and last name in one.
    pub name: Option<usize>,
    pub locale: Option<usize>,
    pub country: Option<usize>,
    pub currency: Option<usize>,
    pub total: Option<usize>,
    pub items: Option<usize>,
    pub consent: Option<usize>,
    pub item_names: Option<usize>,
    pub payment: Option<usize>,
    /// Name and place.
    pub attributes: Vec<(String, usize)>,
}

/// The format that is asked for by name; `auto` is the first built-in one whose columns fit, else the one of jobs.toml whose columns
/// fit. `header` reads the file's header as the format says it is written.
///
/// # Errors
/// When there is no such format, or none or several fit: then it says what was found and what each format lacks.
pub fn choose(
    name: &str,
    configured: &BTreeMap<String, OrderMapping>,
    columns: &BTreeMap<String, String>,
    mut header: impl FnMut(&OrderFormat) -> Result<Vec<String>, ImportError>,
) -> Result<OrderFormat, ImportError> {
    let built_in = || ORDER_FORMATS.iter().map(|built_in| (built_in.format)());
    let mapped = || configured.iter().map(|(name, mapping)| OrderFormat::mapped(name, mapping));
    if name != "auto" || !columns.is_empty() {
        // Columns given by hand describe the file: where no format is named, they complete the built-in one.
        let name = if name == "auto" { generic::FORMAT.key } else { name };
        let Some(format) = built_in().chain(mapped()).find(|format| format.name == name) else {
            return Err(unknown_format(name, built_in().chain(mapped()).map(|format| format.name)));
        };
        return format.with_columns(columns).map_err(ImportError::Unusable);
    }

    let mut lacks = Vec::new();
    let mut fitting = Vec::new();
    for (format, is_built_in) in built_in().map(|f| (f, true)).chain(mapped().map(|f| (f, false))) {
        match format.bind(&header(&format)?) {
            Ok(_) if is_built_in => return Ok(format),
            Ok(_) => fitting.push(format),
            // What is far from a platform's file is not told what it lacks of one.
            Err(_) if is_built_in && !format.resembles(&header(&format)?) => {}
            Err(problem) => lacks.push((format.name, problem)),
        }
    }
    let header = header(&(ORDER_FORMATS[0].format)())?;
    match advice(&header) {
        Some(advice) if fitting.is_empty() => Err(ImportError::Unusable(advice.to_owned())),
        _ => one_of(fitting, |format| &format.name, lacks, &header),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        let mut keys: Vec<_> = ORDER_FORMATS.iter().map(|format| format.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), ORDER_FORMATS.len(), "keys are unique");
        for built_in in ORDER_FORMATS {
            let format = (built_in.format)();
            assert_eq!(format.name, built_in.key);
            assert_ne!(built_in.key, "auto");
            assert!(!built_in.about.is_empty() && !built_in.about.ends_with('.'), "{}", built_in.key);
            for required in REQUIRED_ORDER_COLUMNS {
                assert!(format.required.iter().any(|column| column == required), "{}", built_in.key);
            }
            let delimiter = if built_in.sample.lines().next().unwrap().contains(';') { b';' } else { b',' };
            let mut sample =
                csv::ReaderBuilder::new().delimiter(delimiter).from_reader(built_in.sample.as_bytes());
            let header: Vec<String> = sample.headers().unwrap().iter().map(str::to_owned).collect();
            format.bind(&header).unwrap();
            assert!(sample.records().count() >= 2, "{}", built_in.key);
            assert!(
                !built_in.sample.contains('@') || built_in.sample.contains(".example"),
                "{}",
                built_in.key
            );
        }
    }

    fn check(header: &str, columns: &[(&str, &str)], expected: Result<(), &str>) {
        let header: Vec<String> = header.split(',').map(str::to_owned).collect();
        let columns = columns.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let bound = choose("auto", &BTreeMap::new(), &columns, |_| Ok(header.clone()))
            .map_err(|error| error.to_string())
            .and_then(|format| format.bind(&header));
        match expected {
            Ok(()) => assert!(bound.is_ok(), "{bound:?}"),
            Err(part) => {
                let error = bound.unwrap_err();
                assert!(error.contains(part), "{error}");
            }
        }
    }

    #[test]
    fn headers() {
        check("order_id,email,ordered_at", &[], Ok(()));
        check("ordered_at,items,order_id,email,attributes.city", &[], Ok(()));
        check("order_id,email,ordered_at,line,column,reason", &[], Ok(()));
        check("order_id,email", &[], Err("\"ordered_at\" is missing"));
        check("order_id,email,orderd_at", &[], Err("did you mean `orderd_at`?"));
        check(
            "order_id,email,ordered_at,fullfilled_at",
            &[],
            Err("\"fullfilled_at\" is not known (did you mean `fulfilled_at`?)"),
        );
        check("order_id,email,ordered_at,email", &[], Err("\"email\" stands there twice"));
        check("order_id,email,ordered_at,attributes.a,attributes.a", &[], Err("stands there twice"));
        check("Nr,email,ordered_at,Sum", &[("order_id", "Nr")], Ok(()));
        check("Nr,email,ordered_at,Ville", &[("order_id", "Nr"), ("attributes.city", "Ville")], Ok(()));
        check("Nr,email,ordered_at", &[("order_id", "No")], Err("the column \"No\" for order_id is missing"));
        check("Nr,email,ordered_at", &[("orderid", "Nr")], Err("did you mean `order_id`?"));
    }

    #[test]
    fn formats_of_the_configuration_are_recognised() {
        let mapping = |order_id: &str| OrderMapping {
            text: TextFormat::default(),
            columns: [("order_id", order_id), ("email", "Mail"), ("ordered_at", "Date")]
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
                .into(),
            attributes: BTreeMap::new(),
            status: BTreeMap::new(),
        };
        let configured = BTreeMap::from([("a".to_owned(), mapping("A")), ("b".to_owned(), mapping("B"))]);
        let choose = |name: &str, header: &str| {
            choose(name, &configured, &BTreeMap::new(), |_| {
                Ok(header.split(',').map(str::to_owned).collect())
            })
            .map(|format| format.name)
            .map_err(|error| error.to_string())
        };
        assert_eq!(choose("auto", "B,Mail,Date,other"), Ok("b".to_owned()));
        assert_eq!(choose("b", "whatever"), Ok("b".to_owned()));
        assert!(choose("auto", "A,B,Mail,Date").unwrap_err().contains("several formats"));
        let none = choose("auto", "C,Mail,Date").unwrap_err();
        assert!(
            none.contains("C, Mail, Date") && none.contains("a: the column \"A\" for order_id is missing"),
            "{none}"
        );
        assert!(none.contains("generic: "), "{none}");
        assert!(choose("generik", "x").unwrap_err().contains("did you mean `generic`?"));
    }
}
