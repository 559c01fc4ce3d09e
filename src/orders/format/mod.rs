//! Which of a file's columns is what. A format is either built in (a file here and a line in [`ORDER_FORMATS`]) or described in
//! jobs.toml (`[order_format.<name>]`); both become an [`OrderFormat`], which is bound to a file's header.

mod generic;
mod shopify;
mod woocommerce;
mod magento;
mod prestashop;

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
    "status",
    "first_name",
    "last_name",
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
    /// Whether a header is one of this format, as far as it can be told from columns that no other tool calls so.
    pub is_header: fn(&[String]) -> bool,
    /// What to do with a file that comes from the same platform and cannot be read as orders.
    pub advice: fn(&[String]) -> Option<&'static str>,
}

/// The formats that are built in. `auto` tries the first, then those of jobs.toml, whose author knows the shop, then the others.
pub const ORDER_FORMATS: &[BuiltIn] =
    &[generic::FORMAT, shopify::FORMAT, woocommerce::FORMAT, magento::FORMAT, prestashop::FORMAT];

/// Where the fields of an order stand that has several rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// An order has one row.
    One,
    /// The first row has them; the rows behind it have no date, and another item each.
    OnFirst,
    /// All of its rows have them, or only the first.
    OnEach,
}

/// How a file of orders is read.
#[derive(Debug, Clone, PartialEq)]
pub struct OrderFormat {
    /// As it is reported and recorded.
    pub name: String,
    /// How the file is written.
    pub text: TextFormat,
    /// chrono's notations of the times that are not recognised by themselves, where [`TextFormat`] declares none.
    pub dates: Vec<String>,
    /// Our column (one of [`ORDER_COLUMNS`]) = theirs; of several, the first that is there.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Ours that must be there; the others may be missing.
    pub required: Vec<String>,
    /// The column of first and last name in one, where there are none of their own; of several, the first that is there.
    pub full_name: Vec<String>,
    /// Whether an order may have several rows.
    pub rows: Rows,
    /// Where an order has several rows: the columns of the item, the first that is not empty.
    pub item: Vec<String>,
    /// Attribute = their column.
    pub attributes: BTreeMap<String, String>,
    /// The same, of columns that may be missing.
    pub other_attributes: BTreeMap<String, String>,
    /// Whether each column `attributes.<name>` is an attribute.
    pub open_attributes: bool,
    /// Whether a column that is none of the above is an error, because it must be a typing mistake.
    pub closed: bool,
    /// Their status = ours; `"*"` stands for all others. Empty: they write ours.
    pub status: BTreeMap<String, OrderStatus>,
    /// Columns that say more about the status, with their words and ours; `"*"` stands for any that is not empty. The first that says
    /// something goes before `status`.
    pub verdicts: Vec<(String, BTreeMap<String, OrderStatus>)>,
}

impl OrderFormat {
    /// A format without columns, to be completed.
    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: TextFormat::default(),
            dates: Vec::new(),
            columns: BTreeMap::new(),
            required: Vec::new(),
            full_name: Vec::new(),
            rows: Rows::One,
            item: Vec::new(),
            attributes: BTreeMap::new(),
            other_attributes: BTreeMap::new(),
            open_attributes: false,
            closed: false,
            status: BTreeMap::new(),
            verdicts: Vec::new(),
        }
    }

    /// That of a shop platform, with our columns and what theirs may be called.
    fn platform(name: &str, columns: &[(&str, &[&str])]) -> Self {
        Self {
            columns: columns.iter().map(|(ours, theirs)| ((*ours).to_owned(), words(theirs))).collect(),
            required: words(REQUIRED_ORDER_COLUMNS),
            ..Self::empty(name)
        }
    }

    /// The format that jobs.toml describes under this name. All columns it names must be there.
    pub fn mapped(name: &str, mapping: &OrderMapping) -> Self {
        Self {
            text: mapping.text.clone(),
            columns: mapping
                .columns
                .iter()
                .map(|(ours, theirs)| (ours.clone(), vec![theirs.clone()]))
                .collect(),
            required: mapping.columns.keys().cloned().collect(),
            attributes: mapping.attributes.clone(),
            status: mapping.status.clone(),
            ..Self::empty(name)
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

    /// Finds the columns in a header.
    ///
    /// # Errors
    /// Says everything that does not fit, with the nearest column there is.
    pub fn bind(&self, header: &[String]) -> Result<OrderColumns, String> {
        let mut search = Search::new(header);
        let mut find = |ours: &str| {
            let required = self.required.iter().any(|column| column == ours);
            self.columns.get(ours).and_then(|theirs| search.find_any(ours, theirs, required))
        };
        let (order_id, email, ordered_at) = (find("order_id"), find("email"), find("ordered_at"));
        let mut columns = OrderColumns {
            order_id: order_id.unwrap_or_default(),
            email: email.unwrap_or_default(),
            ordered_at: ordered_at.unwrap_or_default(),
            fulfilled_at: find("fulfilled_at"),
            status: find("status"),
            first_name: find("first_name"),
            last_name: find("last_name"),
            locale: find("locale"),
            country: Vec::new(),
            currency: find("currency"),
            total: find("total"),
            items: find("items"),
            consent: find("consent"),
            full_name: search.find_any("first_name", &self.full_name, false),
            item: self.item.iter().filter_map(|theirs| search.find("items", theirs, false)).collect(),
            verdicts: Vec::new(),
            attributes: Vec::new(),
        };
        if let Some(theirs) = self.columns.get("country") {
            let required = self.required.iter().any(|column| column == "country");
            let first = search.find_any("country", theirs, required);
            let others = theirs.iter().filter_map(|name| {
                header.iter().any(|column| column == name).then(|| search.find("country", name, false))?
            });
            columns.country = first.into_iter().chain(others.filter(|other| Some(*other) != first)).collect();
        }
        if columns.first_name.is_some() || columns.last_name.is_some() {
            columns.full_name = None;
        }
        for (theirs, words) in &self.verdicts {
            if let Some(column) = search.find("status", theirs, false) {
                columns.verdicts.push((column, words.clone()));
            }
        }
        for (name, theirs) in &self.attributes {
            if let Some(column) = search.find(&format!("attributes.{name}"), theirs, true) {
                columns.attributes.push((name.clone(), column));
            }
        }
        for (name, theirs) in &self.other_attributes {
            if let Some(column) = search.find(&format!("attributes.{name}"), theirs, false)
                && !self.attributes.contains_key(name)
            {
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

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn statuses(words: &[(&str, OrderStatus)]) -> BTreeMap<String, OrderStatus> {
    words.iter().map(|(theirs, ours)| ((*theirs).to_owned(), *ours)).collect()
}

/// Whether a header has all of these columns.
fn has_all(header: &[String], names: &[&str]) -> bool {
    names.iter().all(|name| header.iter().any(|column| column == name))
}

/// Whether a header has one of these columns.
fn has_any(header: &[String], names: &[&str]) -> bool {
    names.iter().any(|name| header.iter().any(|column| column == name))
}

/// What to do with a file that a platform has written and that cannot be read as orders.
pub fn advice(header: &[String]) -> Option<&'static str> {
    ORDER_FORMATS.iter().find_map(|built_in| (built_in.advice)(header))
}

/// Where in a row the columns are, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderColumns {
    pub order_id: usize,
    pub email: usize,
    pub ordered_at: usize,
    pub fulfilled_at: Option<usize>,
    pub status: Option<usize>,
    pub first_name: Option<usize>,
    pub last_name: Option<usize>,
    pub locale: Option<usize>,
    /// In the order in which they are asked; the first that says one is it.
    pub country: Vec<usize>,
    pub currency: Option<usize>,
    pub total: Option<usize>,
    pub items: Option<usize>,
    pub consent: Option<usize>,
    /// Of both names, where there is none of the first or the last alone.
    pub full_name: Option<usize>,
    /// Where an order has several rows: of the item, the first that is not empty.
    pub item: Vec<usize>,
    /// See [`OrderFormat::verdicts`].
    pub verdicts: Vec<(usize, BTreeMap<String, OrderStatus>)>,
    /// Name and place.
    pub attributes: Vec<(String, usize)>,
}

/// The format that is asked for by name; `auto` is the program's own if its columns fit, else the one of jobs.toml whose columns fit, else
/// that of the platform whose columns they are. `header` reads the file's header as the format says it is written.
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

    let own = (generic::FORMAT.format)();
    let mut lacks = match own.bind(&header(&own)?) {
        Ok(_) => return Ok(own),
        Err(problem) => vec![(own.name.clone(), problem)],
    };
    let mut fitting = Vec::new();
    for format in mapped() {
        match format.bind(&header(&format)?) {
            Ok(_) => fitting.push(format),
            Err(problem) => lacks.push((format.name, problem)),
        }
    }
    if fitting.is_empty() {
        let mut strangers = Vec::new();
        for built_in in &ORDER_FORMATS[1..] {
            let format = (built_in.format)();
            let header = header(&format)?;
            if !(built_in.is_header)(&header) {
                strangers.push(format.name);
                continue;
            }
            match format.bind(&header) {
                Ok(_) => return Ok(format),
                Err(problem) => lacks.push((format.name, problem)),
            }
        }
        if !strangers.is_empty() {
            lacks.push((strangers.join(", "), "these are not the columns of such a file".to_owned()));
        }
        if let Some(advice) = advice(&header(&own)?) {
            return Err(ImportError::Unusable(advice.to_owned()));
        }
    }
    one_of(fitting, |format| &format.name, lacks, &header(&own)?)
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
            for ours in format.columns.keys() {
                assert!(ORDER_COLUMNS.contains(&ours.as_str()), "{} fills {ours}", built_in.key);
            }
            assert_eq!(format.rows == Rows::One, format.item.is_empty(), "{}", built_in.key);
            let delimiter = if built_in.sample.lines().next().unwrap().contains(';') { b';' } else { b',' };
            let mut sample =
                csv::ReaderBuilder::new().delimiter(delimiter).from_reader(built_in.sample.as_bytes());
            let header: Vec<String> = sample.headers().unwrap().iter().map(str::to_owned).collect();
            format.bind(&header).unwrap();
            assert!((built_in.is_header)(&header), "{} does not know its own sample", built_in.key);
            assert_eq!((built_in.advice)(&header), None, "{}", built_in.key);
            // Whatever `auto` asks first, the sample is of one format alone.
            let others = ORDER_FORMATS.iter().skip(1).filter(|other| other.key != built_in.key);
            for other in others {
                let fits = (other.format)().bind(&header).is_ok() && (other.is_header)(&header);
                assert!(!fits, "the sample of {} is taken for {}", built_in.key, other.key);
            }
            assert!(sample.records().count() >= 2, "{}", built_in.key);
            let addresses = built_in.sample.split([',', ';', '"']).filter(|field| field.contains('@'));
            for address in addresses {
                assert!(address.trim().ends_with(".example"), "{}: {address}", built_in.key);
            }
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
