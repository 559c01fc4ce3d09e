//! A file of orders: bytes become rows, rows become orders or faults, and each row is one or the other.

use std::collections::BTreeMap;
use std::io::Write as _;

use afterword::import::text::{Source, Whence};
use afterword::import::times::Times;
use afterword::orders::format::choose;
use afterword::orders::parse::OrderReader;

pub fn run(file: &[u8]) {
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(file).unwrap();
    let Ok(mut source) = Source::open(on_disk.path(), Whence::Named) else { return };
    let chosen = choose("auto", &BTreeMap::new(), &BTreeMap::new(), |format| {
        let written = source.written(&format.text)?;
        source.header(written)
    });
    let format = match chosen {
        Ok(format) => format,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let written = source.written(&format.text).unwrap();
    let header = source.header(written).unwrap();
    let columns = format.bind(&header).unwrap();
    let reader = OrderReader::new(&format, columns, Times::new(chrono_tz::Europe::Paris, None).unwrap());
    let mut records = source.records(written).unwrap();
    let mut last = 0;
    loop {
        // The file as a whole may turn out to be none.
        let Ok(next) = records.next() else { return };
        let Some((line, judged)) = next else { break };
        assert!(line > last, "lines go forward");
        last = line;
        let record = records.record();
        let fault = match judged {
            Err(fault) => fault,
            Ok(()) => match reader.read(record) {
                Ok(order) => {
                    assert!(
                        record.iter().all(|field| std::str::from_utf8(field).is_ok()),
                        "each field is text"
                    );
                    assert!(!order.external_id.is_empty() && !order.external_id.contains(char::is_control));
                    let names = [&order.first_name, &order.last_name];
                    assert!(
                        names
                            .into_iter()
                            .flatten()
                            .all(|name| !name.is_empty() && !name.contains(char::is_control))
                    );
                    let texts = reader.attributes(record).map(|(_, value)| value).chain(order.items());
                    assert!(
                        texts.into_iter().all(|text| !text.contains('\0')),
                        "what the database cannot keep"
                    );
                    continue;
                }
                Err(fault) => fault,
            },
        };
        assert!(!fault.reason.is_empty());
    }
}
