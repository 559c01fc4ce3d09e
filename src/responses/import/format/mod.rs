//! Which of a file's columns is what. A format is either built in (a file here and a line in [`RESPONSE_FORMATS`]) or described in
//! jobs.toml (`[response_format.<name>]`); both become a [`ResponseFormat`], which is bound to a file's header. Built-in formats are of
//! whatever survey was answered; one of jobs.toml names its own.

mod generic;
mod limesurvey;

use std::collections::BTreeMap;

use super::Asked;
use crate::config::{ResponseMapping, TextFormat};
use crate::import::ImportError;
use crate::import::header::{Search, one_of, unknown_format};
use crate::import::run::ImportOptions;
use crate::nearest::did_you_mean;
use crate::survey::{Question, Survey};

/// The columns a file of answers can fill, besides its answers.
pub const RESPONSE_COLUMNS: &[&str] = &["order_id", "email", "answered_at", "external_id", "display_name"];
/// Those that a format of jobs.toml has to name.
pub const MAPPED_RESPONSE_COLUMNS: &[&str] = &["answered_at"];

/// A format that is built in.
#[derive(Debug)]
pub struct BuiltIn {
    /// Its name after `--format`.
    pub key: &'static str,
    /// One line about it, for the help.
    pub about: &'static str,
    /// A small file in this format, of a survey with the questions `recommend`, `overall` and `comment`; its customers are made up.
    pub sample: &'static str,
    /// How it is read, when this survey was answered.
    pub format: fn(&Survey) -> ResponseFormat,
    /// Whether a header is one of this format, as far as it can be told from columns that no other tool calls so.
    pub is_header: fn(&[String]) -> bool,
    /// What to do with a file that comes from the same tool and cannot be read as answers.
    pub advice: fn(&[String]) -> Option<&'static str>,
}

/// The formats that are built in. `auto` tries the first, then those of jobs.toml, then the others.
pub const RESPONSE_FORMATS: &[BuiltIn] = &[generic::FORMAT, limesurvey::FORMAT];

/// How a file of answers is read.
#[derive(Debug, Clone)]
pub struct ResponseFormat {
    /// As it is reported and recorded.
    pub name: String,
    /// How the file is written.
    pub text: TextFormat,
    /// What was answered.
    pub survey: Survey,
    /// Ours (one of [`RESPONSE_COLUMNS`]) = theirs; of several, the first that is there.
    pub columns: BTreeMap<String, Vec<String>>,
    /// Question key = their column; of several, the first that is there.
    pub answers: BTreeMap<String, Vec<String>>,
    /// Ours, or question keys, that must be there.
    pub required: Vec<String>,
    /// Whether a column that is none of these is an error.
    pub closed: bool,
    /// How a time begins that the tool writes where it does not know when it was answered.
    pub no_time: Option<&'static str>,
}

impl ResponseFormat {
    fn built_in(name: &str, survey: &Survey) -> Self {
        Self {
            name: name.to_owned(),
            text: TextFormat::default(),
            survey: survey.clone(),
            columns: BTreeMap::new(),
            answers: BTreeMap::new(),
            required: vec!["answered_at".to_owned()],
            closed: false,
            no_time: None,
        }
    }

    fn mapped(name: &str, mapping: &ResponseMapping, survey: &Survey) -> Self {
        let one = |(ours, theirs): (&String, &String)| (ours.clone(), vec![theirs.clone()]);
        Self {
            text: mapping.text.clone(),
            columns: mapping.columns.iter().map(one).collect(),
            answers: mapping.answers.iter().map(one).collect(),
            required: mapping.columns.keys().chain(mapping.answers.keys()).cloned().collect(),
            ..Self::built_in(name, survey)
        }
    }

    fn with_columns(mut self, columns: &BTreeMap<String, String>) -> Result<Self, ImportError> {
        for (ours, theirs) in columns {
            if RESPONSE_COLUMNS.contains(&ours.as_str()) {
                self.columns.insert(ours.clone(), vec![theirs.clone()]);
            } else if self.survey.questionnaire.question(ours).is_some() {
                self.answers.insert(ours.clone(), vec![theirs.clone()]);
            } else {
                let known = RESPONSE_COLUMNS.iter().copied().chain(self.question_keys());
                let hint = did_you_mean(ours, known).unwrap_or_else(|| {
                    let keys: Vec<&str> = self.question_keys().collect();
                    format!("the columns are {}, {}", RESPONSE_COLUMNS.join(", "), keys.join(", "))
                });
                return Err(ImportError::Unusable(format!("there is no column {ours:?} to fill; {hint}")));
            }
            self.required.push(ours.clone());
            self.closed = false;
        }
        Ok(self)
    }

    fn question_keys(&self) -> impl Iterator<Item = &str> {
        self.survey.questionnaire.questions.iter().map(|question| question.key.as_str())
    }

    /// Finds the columns in a header.
    ///
    /// # Errors
    /// Says everything that does not fit, with the nearest column there is.
    pub fn bind(&self, header: &[String]) -> Result<ResponseColumns, String> {
        let mut search = Search::new(header);
        let mut find = |ours: &str, theirs: Option<&Vec<String>>| {
            let required = self.required.iter().any(|column| column == ours);
            theirs.and_then(|theirs| search.find_any(ours, theirs, required))
        };
        let order_id = find("order_id", self.columns.get("order_id"));
        let email = find("email", self.columns.get("email"));
        let answered_at = find("answered_at", self.columns.get("answered_at"));
        let external_id = find("external_id", self.columns.get("external_id"));
        let display_name = find("display_name", self.columns.get("display_name"));
        let mut answers = Vec::new();
        for question in &self.survey.questionnaire.questions {
            if let Some(column) = find(&question.key, self.answers.get(&question.key)) {
                answers.push((question.clone(), column));
            }
        }
        if order_id.is_none() && email.is_none() && !self.required.iter().any(|column| column == "order_id") {
            search.add("neither \"order_id\" nor \"email\" is there".to_owned());
        }
        if answers.is_empty() {
            search.add(format!("no column is a question of the survey {:?}", self.survey.key));
        }
        let known: Vec<&str> = RESPONSE_COLUMNS.iter().copied().chain(self.question_keys()).collect();
        search.finish(self.closed.then_some(&known))?;
        Ok(ResponseColumns {
            order_id,
            email,
            answered_at: answered_at.unwrap_or_default(),
            external_id,
            display_name,
            answers,
        })
    }
}

/// Where in a row the columns are, counted from 0.
#[derive(Debug)]
pub struct ResponseColumns {
    pub order_id: Option<usize>,
    pub email: Option<usize>,
    pub answered_at: usize,
    pub external_id: Option<usize>,
    pub display_name: Option<usize>,
    /// The questions that have a column.
    pub answers: Vec<(Question, usize)>,
}

/// A format the file may be in, of a survey that it may answer.
struct Candidate {
    format: ResponseFormat,
    built_in: Option<&'static BuiltIn>,
}

impl Candidate {
    /// Format and survey, for people.
    fn label(&self) -> String {
        let ResponseFormat { name, survey, .. } = &self.format;
        format!("{name} (of the survey {})", survey.key)
    }
}

/// The formats the file may be in; with those that are out of the question and why.
pub struct Candidates {
    formats: Vec<Candidate>,
    excluded: Vec<(String, String)>,
    /// Whether `auto` has to choose.
    open: bool,
}

/// The formats that a file may be in, after what was said by hand.
///
/// # Errors
/// When there is no such format or survey.
pub fn candidates(asked: Asked<'_>, shop: &str, options: &ImportOptions) -> Result<Candidates, ImportError> {
    let Asked { formats, surveys, survey } = asked;
    let of_shop = || surveys.iter().filter(|survey| survey.is_for(shop));
    let named = match survey {
        None => None,
        Some(key) => Some(of_shop().find(|survey| survey.key == key).ok_or_else(|| {
            let hint = did_you_mean(key, of_shop().map(|survey| survey.key.as_str()));
            let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            ImportError::Unusable(format!("the shop {shop:?} has no survey {key:?}{hint}"))
        })?),
    };
    let mut candidates =
        Candidates { formats: Vec::new(), excluded: Vec::new(), open: options.format == "auto" };
    // Where nobody says which survey was answered, its questions say it.
    let answered = || of_shop().filter(|survey| named.is_none_or(|named| named.key == survey.key));
    for built_in in RESPONSE_FORMATS {
        let of_survey = |survey| Candidate { format: (built_in.format)(survey), built_in: Some(built_in) };
        candidates.formats.extend(answered().map(of_survey));
    }
    for (name, mapping) in formats {
        let survey = of_shop().find(|survey| survey.key == mapping.survey);
        match survey {
            Some(survey) if named.is_none_or(|named| named.key == survey.key) => {
                let format = ResponseFormat::mapped(name, mapping, survey);
                candidates.formats.push(Candidate { format, built_in: None });
            }
            _ => candidates.excluded.push((
                name.clone(),
                format!("it is for the survey {:?}, which is not asked for", mapping.survey),
            )),
        }
    }
    if candidates.open && options.columns.is_empty() {
        return Ok(candidates);
    }

    // Columns given by hand describe the file: where no format is named, they complete the built-in one.
    let name = if candidates.open { generic::FORMAT.key } else { options.format.as_str() };
    if let Some((_, why)) = candidates.excluded.iter().find(|(excluded, _)| excluded == name) {
        return Err(ImportError::Unusable(format!("the format {name:?} cannot be used: {why}")));
    }
    let names: Vec<String> =
        candidates.formats.iter().map(|candidate| candidate.format.name.clone()).collect();
    let named = candidates.formats.into_iter().filter(|candidate| candidate.format.name == name);
    let completed: Vec<Result<Candidate, ImportError>> = named
        .map(|candidate| {
            let format = candidate.format.with_columns(&options.columns)?;
            Ok(Candidate { format, built_in: None })
        })
        .collect();
    if completed.is_empty() {
        return Err(unknown_format(name, names.into_iter()));
    }
    // A column may be for a question that only some of the surveys ask.
    let (fitting, others): (Vec<_>, Vec<_>) = completed.into_iter().partition(Result::is_ok);
    match others.into_iter().next() {
        Some(Err(error)) if fitting.is_empty() => Err(error),
        _ => Ok(Candidates {
            formats: fitting.into_iter().flatten().collect(),
            excluded: Vec::new(),
            open: false,
        }),
    }
}

impl Candidates {
    /// The format of a file. `header` reads the file's header as the format says it is written.
    ///
    /// # Errors
    /// When none or several fit: then it says what was found and what each format lacks.
    pub fn choose(
        self,
        mut header: impl FnMut(&ResponseFormat) -> Result<Vec<String>, ImportError>,
    ) -> Result<ResponseFormat, ImportError> {
        let several =
            self.formats.iter().any(|one| one.format.survey.key != self.formats[0].format.survey.key);
        let mut fitting = Vec::new();
        let mut lacks = self.excluded;
        let mut seen = Vec::new();
        for candidate in self.formats {
            seen = header(&candidate.format)?;
            let is_header = candidate.built_in.is_none_or(|built_in| (built_in.is_header)(&seen));
            let label = if several { candidate.label() } else { candidate.format.name.clone() };
            match candidate.format.bind(&seen) {
                Ok(columns) if is_header || !self.open => fitting.push((columns.answers.len(), candidate)),
                Err(problem) if is_header || !self.open => lacks.push((label, problem)),
                _ => lacks.push((label, "these are not the columns of such a file".to_owned())),
            }
        }
        // The program's own columns are clear; and who wrote jobs.toml knows the tool.
        let rank = |candidate: &Candidate| match candidate.built_in {
            Some(built_in) if built_in.key == generic::FORMAT.key => 0,
            None => 1,
            Some(_) => 2,
        };
        let best = fitting.iter().map(|(_, candidate)| rank(candidate)).min();
        fitting.retain(|(_, candidate)| Some(rank(candidate)) == best);
        // A tool's file may have columns that one survey asks and another does not.
        let most = |name: &str| {
            let same = fitting.iter().filter(|(_, candidate)| candidate.format.name == name);
            same.map(|(n_answers, _)| *n_answers).max()
        };
        let closest: Vec<bool> =
            fitting.iter().map(|(n, candidate)| most(&candidate.format.name) == Some(*n)).collect();
        let mut closest = closest.into_iter();
        fitting.retain(|_| closest.next().unwrap_or_default());
        let formats: Vec<ResponseFormat> =
            fitting.into_iter().map(|(_, candidate)| candidate.format).collect();
        match &formats[..] {
            [first, others @ ..]
                if !others.is_empty() && others.iter().all(|other| other.name == first.name) =>
            {
                let surveys: Vec<&str> = formats.iter().map(|format| format.survey.key.as_str()).collect();
                Err(ImportError::Unusable(format!(
                    "answers the questions of several surveys; name one with --survey: {}",
                    surveys.join(", ")
                )))
            }
            [] => match (advice(&seen), &lacks[..]) {
                (Some(advice), _) => Err(ImportError::Unusable(advice.to_owned())),
                (None, [(name, problem)]) if !self.open => {
                    Err(ImportError::Unusable(format!("does not fit the format {name}: {problem}")))
                }
                (None, _) => one_of(formats, |format| &format.name, lacks, &seen),
            },
            _ => one_of(formats, |format| &format.name, lacks, &seen),
        }
    }
}

fn advice(header: &[String]) -> Option<&'static str> {
    RESPONSE_FORMATS.iter().find_map(|built_in| (built_in.advice)(header))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::init::SHIPPED;
    use crate::config::Config;

    #[test]
    fn the_list_is_in_order() {
        let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
        let survey = config.survey("satisfaction").unwrap();
        let mut keys: Vec<_> = RESPONSE_FORMATS.iter().map(|format| format.key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), RESPONSE_FORMATS.len(), "keys are unique");
        for built_in in RESPONSE_FORMATS {
            let format = (built_in.format)(survey);
            assert_eq!(format.name, built_in.key);
            assert_ne!(built_in.key, "auto");
            assert!(!built_in.about.is_empty() && !built_in.about.ends_with('.'), "{}", built_in.key);
            let mut sample = csv::Reader::from_reader(built_in.sample.as_bytes());
            let header: Vec<String> = sample.headers().unwrap().iter().map(str::to_owned).collect();
            let columns = format.bind(&header).unwrap();
            assert!(columns.answers.len() >= 3, "{}", built_in.key);
            assert!((built_in.is_header)(&header), "{} does not know its own sample", built_in.key);
            assert_eq!((built_in.advice)(&header), None, "{}", built_in.key);
            assert!(sample.records().count() >= 2, "{}", built_in.key);
            let addresses = built_in.sample.split([',', '"', '\n']).filter(|field| field.contains('@'));
            for address in addresses {
                assert!(address.trim().ends_with(".example"), "{}: {address}", built_in.key);
            }
        }
    }
}
