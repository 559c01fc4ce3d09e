//! [1] Orders in: files into a real database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afterword::cli::init::SHIPPED;
use afterword::config::{Config, OrderMapping, TextFormat};
use afterword::import::ImportError;
use afterword::import::rejects;
use afterword::import::run::{Destination, ImportKind, ImportOptions, ImportReport, once_more_if_taken_back};
use afterword::orders::OrderStatus;
use afterword::orders::format::ORDER_FORMATS;
use afterword::orders::import::import_orders;
use afterword::types::{Clock, ShopId};
use proptest::prelude::*;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;

use crate::support::program::{Program, shipped};
use crate::support::{TestDb, data_dir, factories, factories::at};

/// A shop with nothing in it, and a folder to put files into.
struct Shop {
    db: TestDb,
    id: ShopId,
    dir: TempDir,
    config: Config,
}

impl Shop {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let id = factories::shop(&db.pool, "maison").await;
        let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
        Self { db, id, dir: data_dir(), config }
    }

    fn file(&self, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join("orders.csv");
        std::fs::write(&path, content).unwrap();
        path
    }

    async fn import(&self, content: impl AsRef<[u8]>) -> ImportReport {
        self.try_import(&self.file(content), &ImportOptions::default()).await.unwrap()
    }

    async fn try_import(&self, path: &Path, options: &ImportOptions) -> Result<ImportReport, ImportError> {
        self.import_at(path, options, "2026-06-01T12:00:00Z").await
    }

    async fn import_at(
        &self,
        path: &Path,
        options: &ImportOptions,
        now: &str,
    ) -> Result<ImportReport, ImportError> {
        let to = Destination { pool: &self.db.pool, shop: self.id, config: &self.config.shops[0] };
        let report =
            import_orders(to, &self.config.order_formats, path, options, Clock::Fixed(at(now)), &|_, _| {})
                .await;
        if let Ok(report) = &report {
            let parts = report.n_inserted + report.n_updated + report.n_unchanged + report.n_rejected;
            assert_eq!(parts, report.n_read, "{report:?}");
        }
        report
    }

    /// What a query gives, a line a row, the columns joined with `|`.
    async fn select(&self, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).bind(self.id).fetch_all(&self.db.pool).await.unwrap()
    }

    async fn orders(&self) -> Vec<String> {
        self.select(
            r#"select concat_ws('|', o.external_id, c.email, c.first_name, o.ordered_at at time zone 'UTC',
                 o.fulfilled_at at time zone 'UTC', o.status, o.total, o.currency, o.items, o.locale, o.country, o.attributes)
               from "order" o join customer c using (shop_id, customer_id) where shop_id = $1 order by o.external_id"#,
        )
        .await
    }
}

fn counts(report: &ImportReport) -> [u64; 5] {
    [report.n_read, report.n_inserted, report.n_updated, report.n_unchanged, report.n_rejected]
}

#[tokio::test]
async fn the_samples_of_the_built_in_formats_go_in() {
    for format in ORDER_FORMATS {
        let shop = Shop::new().await;
        let report = shop.import(format.sample).await;
        assert_eq!((report.format.as_str(), report.n_rejected), (format.key, 0));
        assert!(report.n_inserted >= 2);
    }
}

#[tokio::test]
async fn a_generic_file_becomes_orders_and_customers() {
    let shop = Shop::new().await;
    let report = shop.import(ORDER_FORMATS[0].sample).await;
    assert_eq!(counts(&report), [3, 3, 0, 0, 0]);
    assert_eq!(
        shop.orders().await,
        [
            "M-1001|claire.dubois@customer.example|Claire|2026-05-01 08:00:00|2026-05-04 13:30:00|fulfilled|12990|EUR|{P-1,P-7}|fr|FR|{\"channel\": \"web\"}",
            "M-1002|tom.baker@customer.example|Tom|2026-05-01 09:12:00|open|5900|GBP|{P-3}|en|GB|{\"channel\": \"app\"}",
            "M-1003|claire.dubois@customer.example|Claire|2026-05-01 22:00:00|cancelled|129900|EUR|{}|fr|FR|{\"channel\": \"web\"}",
        ]
    );
    let customers = shop.select("select count(*)::text from customer where shop_id = $1").await;
    assert_eq!(customers, ["2"]);
    let runs = "select concat_ws('|', kind, file_name, format, encoding, delimiter, n_read, n_inserted) from import_run where shop_id = $1";
    assert_eq!(shop.select(runs).await, ["orders|orders.csv|generic|UTF-8|,|3|3"]);
}

/// A file of a platform: its header, and rows that name only the columns that matter to a test.
fn sheet(header: &str, delimiter: char, rows: &[&[(&str, &str)]]) -> String {
    let columns: Vec<&str> = header.split(',').collect();
    let mut text = header.replace(',', &delimiter.to_string());
    for row in rows {
        let cell =
            |column: &&str| row.iter().find(|(name, _)| name == column).map_or("", |(_, value)| *value);
        for (name, _) in *row {
            assert!(columns.contains(name), "the header has no {name}");
        }
        let cells = columns.iter().map(cell).map(|value| {
            let quote = value.contains([delimiter, '"', '\n']);
            if quote { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.to_owned() }
        });
        text = format!("{text}\n{}", cells.collect::<Vec<_>>().join(&delimiter.to_string()));
    }
    text + "\n"
}

/// The header of a built-in format's sample.
fn header_of(key: &str) -> String {
    let format = ORDER_FORMATS.iter().find(|format| format.key == key).unwrap();
    format.sample.lines().next().unwrap().replace(';', ",")
}

fn rejects_of(report: &ImportReport) -> Vec<String> {
    report.rejects.iter().map(|reject| reject.sentence()).collect()
}

#[tokio::test]
async fn shopify_orders_have_a_row_for_each_item() {
    let at = ("Created at", "2026-05-01 10:00:00 +0200");
    let paid = ("Financial Status", "paid");
    let [order, email, name, sku, item] = ["Name", "Email", "Billing Name", "Lineitem sku", "Lineitem name"]
        .map(|column| move |value| (column, value));
    let text = sheet(
        &header_of("shopify"),
        ',',
        &[
            // Somebody cut the file here: the order is in the other half.
            &[order("#0999"), item("Tea")],
            &[
                order("#1001"),
                email("claire.dubois@customer.example"),
                at,
                paid,
                name("Claire Dubois"),
                sku("P-1"),
                ("Fulfillment Status", "fulfilled"),
                ("Fulfilled at", "2026-05-04 15:30:00 +0200"),
                ("Total", "129.90"),
                ("Currency", "EUR"),
                ("Shipping Country", "FR"),
                ("Shipping Zip", "'75011"),
                ("Notes", "Leave it \"there\",\nplease"),
                ("Accepts Marketing", "no"),
            ],
            &[order("#1001"), item("Tea | green")],
            &[order("#1001"), email("claire.dubois@customer.example"), sku("P-1")],
            // Sold at the till, to somebody who left no address.
            &[order("#1002"), at, paid, sku("P-3"), ("Source", "pos")],
            &[order("#1002"), sku("P-4")],
            &[
                order("#1003"),
                email("tom.baker@customer.example"),
                at,
                paid,
                sku("P-3"),
                ("Fulfillment Status", "partial"),
            ],
            // The same row twice.
            &[
                order("#1003"),
                email("tom.baker@customer.example"),
                at,
                paid,
                sku("P-3"),
                ("Fulfillment Status", "partial"),
            ],
            &[order("#1004"), email("test@shop.example"), at, paid, sku("P-3"), ("Payment Method", "bogus")],
            &[
                order("#1005"),
                email("a@customer.example"),
                at,
                ("Financial Status", "refunded"),
                ("Fulfillment Status", "fulfilled"),
            ],
            &[
                order("#1006"),
                email("b@customer.example"),
                at,
                paid,
                ("Cancelled at", "2026-05-02 10:00:00 +0200"),
            ],
            &[
                order("#1007"),
                email("c@customer.example"),
                at,
                ("Financial Status", "partially_refunded"),
                name("Cher"),
                sku("P-9"),
            ],
        ],
    );
    // A byte-order mark, line ends of two kinds, and a row of an item that has lost its columns.
    let mixed = format!("\u{feff}{}#1007,,,\r\n", text.replacen('\n', "\r\n", 4));
    let shop = Shop::new().await;
    let rejects = shop.dir.path().join("rejects.csv");
    let options = ImportOptions { rejects: Some(rejects.clone()), ..ImportOptions::default() };
    let report = shop.try_import(&shop.file(&mixed), &options).await.unwrap();
    assert_eq!((report.format.as_str(), report.n_lines), ("shopify", 2));
    // Two further lines, and an order whose row stands there twice.
    assert_eq!(counts(&report), [13, 6, 0, 3, 4], "{report:?}");
    assert_eq!(
        rejects_of(&report),
        [
            "line 2, Created at: is empty, and the first row of this order does not stand above",
            "line 7, Email: is empty",
            "line 8: belongs to the order on line 7, which was rejected",
            "line 15: has 4 columns where the header has 63",
        ]
    );
    let orders = shop.orders().await;
    assert_eq!(
        orders,
        [
            "#1001|claire.dubois@customer.example|Claire|2026-05-01 08:00:00|2026-05-04 13:30:00|fulfilled|12990|EUR|{P-1,\"Tea | green\"}|FR|{\"accepts_marketing\": \"no\"}",
            "#1003|tom.baker@customer.example|2026-05-01 08:00:00|open|{P-3}|{}",
            "#1004|test@shop.example|2026-05-01 08:00:00|cancelled|{P-3}|{}",
            "#1005|a@customer.example|2026-05-01 08:00:00|refunded|{}|{}",
            "#1006|b@customer.example|2026-05-01 08:00:00|cancelled|{}|{}",
            "#1007|c@customer.example|Cher|2026-05-01 08:00:00|open|{P-9}|{}",
        ]
    );
    let names = "select concat_ws('|', first_name, last_name) from customer where shop_id = $1 and last_name is not null";
    assert_eq!(shop.select(names).await, ["Claire|Dubois"]);

    let before = shop.select(TRACES).await;
    let again = ImportOptions { again: true, ..ImportOptions::default() };
    let report = shop.import_at(&shop.file(&mixed), &again, "2026-06-02T12:00:00Z").await.unwrap();
    assert_eq!(counts(&report), [13, 0, 0, 9, 4]);
    assert_eq!(shop.select(TRACES).await, before);

    // The file of rejects holds the rejected order with all of its rows, and goes in when the address is put into it.
    let written = std::fs::read_to_string(rejects).unwrap();
    let corrected = written.replacen("#1002,", "#1002,guest@customer.example", 1);
    let report = shop.import(corrected).await;
    assert_eq!((report.n_inserted, report.n_lines), (1, 1), "{report:?}");
    assert!(shop.orders().await[1].contains("|{P-3,P-4}|"));

    // As a French spreadsheet saves it.
    let (bytes, ..) = encoding_rs::WINDOWS_1252.encode(
        "Name;Email;Financial Status;Created at;Lineitem name;Billing Name
#2001;zoe@customer.example;paid;2026-05-01 10:00:00 +0200;Théière;Zoë Élan
#2001;;;;Thé;
",
    );
    let report = shop.import(&bytes).await;
    assert_eq!((report.format.as_str(), report.encoding, report.delimiter), ("shopify", "windows-1252", ';'));
    assert!(shop.orders().await[7].contains("|Zoë|") && shop.orders().await[7].contains("|{Théière,Thé}|"));
}

#[tokio::test]
async fn woocommerce_files_of_several_plugins() {
    // Import Export Suite: columns in any order, months first, one row an order.
    let shop = Shop::new().await;
    let text = "status,billing_email,customer_email,order_date,order_number,order_id,order_total,order_currency,billing_country,completed_date
wc-completed,a@customer.example,a@customer.example,9/6/2026 6:29:00,10,10,12.50,EUR,FR,09/10/2026 10:00:00
Refunded,b@customer.example,,2026-09-06 06:29:00,11,11,12.50,EUR,FR,
wc-failed,c@customer.example,,2026-09-06 06:29:00,12,12,12.50,EUR,FR,
processing,,,2026-09-06 06:29:00,13,13,12.50,EUR,FR,
on-hold,d@customer.example,,13/06/2026 10:00,14,14,12.50,EUR,FR,
";
    let report = shop.import(text).await;
    assert_eq!(report.format, "woocommerce");
    assert_eq!(
        rejects_of(&report),
        [
            "line 5, billing_email: is empty",
            "line 6, order_date: has the day or the month first; state the date format, such as %d/%m/%Y %H:%M"
        ]
    );
    assert_eq!(
        shop.orders().await,
        [
            "10|a@customer.example|2026-09-06 04:29:00|2026-09-10 08:00:00|fulfilled|1250|EUR|{}|FR|{}",
            "11|b@customer.example|2026-09-06 04:29:00|refunded|1250|EUR|{}|FR|{}",
            "12|c@customer.example|2026-09-06 04:29:00|cancelled|1250|EUR|{}|FR|{}",
        ]
    );

    // Advanced Order Export in French, a row for each item, the order's fields on the first only; and with them on each.
    let shop = Shop::new().await;
    let header = "Numéro de commande;Statut de la commande;Date de commande;Note du client;Prénom (facturation);Nom de famille (facturation);Email (facturation);Code de pays (facturation);Montant total de la commande;Article #;Nom de l'article;Quantité";
    let text = format!(
        "{header}\n20;Terminée;2026-05-01 10:00;\"Merci,\nà bientôt\";Anaïs;Petit;anais@customer.example;FR;\"1\u{a0}299,00\";1;Théière;1\n;;;;;;;;;2;Thé;1\n21;En cours;2026-05-01 11:00;;;;sans adresse;FR;5;1;Thé;1\n;;;;;;;;;2;Tasse;1\n22;Annulée;2026-05-02 10:00;;Léa;Roi;lea@customer.example;FR;5;1;Thé;1\n22;Annulée;2026-05-02 10:00;;Léa;Roi;lea@customer.example;FR;5;2;Tasse;1\n23;En cours;\n;;;;;;;;;2;Tasse;1\n"
    );
    let (bytes, ..) = encoding_rs::WINDOWS_1252.encode(&text);
    let report = shop.import(&bytes).await;
    assert_eq!((report.format.as_str(), report.encoding, report.n_lines), ("woocommerce", "windows-1252", 2));
    assert_eq!(counts(&report), [8, 2, 0, 2, 4], "{report:?}");
    assert_eq!(
        rejects_of(&report),
        [
            "line 5, Email (facturation): is not a mail address",
            "line 6: belongs to the order on line 5, which was rejected",
            "line 9: has 3 columns where the header has 12",
            "line 10: belongs to the order above it, which may be that of line 9, which was rejected",
        ]
    );
    assert_eq!(
        shop.orders().await,
        [
            "20|anais@customer.example|Anaïs|2026-05-01 08:00:00|fulfilled|129900|{Théière,Thé}|FR|{}",
            "22|lea@customer.example|Léa|2026-05-02 08:00:00|cancelled|500|{Thé,Tasse}|FR|{}",
        ]
    );
}

#[tokio::test]
async fn magento_and_prestashop_say_what_is_missing_from_their_lists() {
    let shop = Shop::new().await;
    let check = async |text: &str, format: &str, expected: &[&str]| {
        let options = ImportOptions { format: format.to_owned(), ..ImportOptions::default() };
        let error = shop.try_import(&shop.file(text), &options).await.unwrap_err().to_string();
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("generic"), "{error}");
    };
    let grid = "ID,Purchase Point,Purchase Date,Bill-to Name,Ship-to Name,Grand Total (Base),Grand Total (Purchased),Status\n";
    check(grid, "auto", &["Magento", "Sales > Orders", "Customer Email", "Columns"]).await;
    check(grid, "magento", &["Magento", "switch on Customer Email"]).await;
    check("ID,Date d'achat,Statut\n", "auto", &["Colonnes, E-mail du client"]).await;
    check(
        "ID;Reference;New client;Delivery;Customer;Total;Payment;Status;Date\n",
        "auto",
        &["PrestaShop", "SQL manager"],
    )
    .await;
    check(
        "ID;Référence;Nouveau client;Livraison;Client;Total;Paiement;État;Date\n",
        "prestashop",
        &["README", "Base de données"],
    )
    .await;

    let french = "ID,Date d'achat,Nom du client,E-mail du client,Total (Devise de la commande),Statut
000000201,\"Sep 3, 2026 3:05:00 PM\",Anaïs Petit,anais@customer.example,129.9000,Terminée
000000202,\"Sep 30, 2026 15:05:00 PM\",,tom@customer.example,5,Fermée
000000203,\"Sep 30, 2026 15:05:00 PM\",,,5,En cours
";
    let report = shop.import(french).await;
    assert_eq!((report.format.as_str(), report.n_rejected), ("magento", 1));
    assert_eq!(
        shop.orders().await,
        [
            "000000201|anais@customer.example|Anaïs|2026-09-03 13:05:00|fulfilled|12990|{}|{}",
            "000000202|tom@customer.example|2026-09-30 13:05:00|refunded|500|{}|{}",
        ]
    );

    // Orders that PrestaShop has split share a reference.
    let shop = Shop::new().await;
    let report =
        shop.import(ORDER_FORMATS.iter().find(|format| format.key == "prestashop").unwrap().sample).await;
    assert_eq!(counts(&report), [4, 3, 0, 1, 0]);
    assert_eq!(
        shop.orders().await,
        [
            "OHSATSERP|tom.baker@customer.example|Tom|2026-05-01 09:12:00|open|5900|GBP|{44}|en|GB|{}",
            "UOYEVOLI0|claire.dubois@customer.example|Claire|2026-05-02 07:00:00|cancelled|1200|EUR|{57}|fr|FR|{}",
            "XKBKNABJK|claire.dubois@customer.example|Claire|2026-05-01 08:00:00|2026-05-04 13:30:00|fulfilled|12990|EUR|{41,57}|fr|FR|{}",
        ]
    );
}

#[tokio::test]
async fn what_jobs_toml_describes_goes_before_the_platforms() {
    let mut shop = Shop::new().await;
    let columns = [("order_id", "order_id"), ("email", "customer_email"), ("ordered_at", "order_date")];
    let mapping = OrderMapping {
        columns: columns.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        attributes: BTreeMap::new(),
        status: BTreeMap::new(),
        text: TextFormat { date_format: Some("%d/%m/%Y".to_owned()), ..TextFormat::default() },
    };
    shop.config.order_formats.insert("ours".to_owned(), mapping);
    let text = "order_id,customer_email,order_date,billing_city\n1,a@customer.example,03/04/2026,Paris\n";
    let report = shop.import(text).await;
    assert_eq!(report.format, "ours");
    assert!(shop.orders().await[0].contains("2026-04-02 22:00:00"));
}

#[tokio::test]
async fn an_attribute_loses_the_apostrophe_of_a_spreadsheet() {
    let shop = Shop::new().await;
    let text = "Name,Email,Financial Status,Created at,Lineitem name,Shipping Zip,Tags
1,a@customer.example,paid,2026-05-01,Tea,'01000,'t Hart
";
    let columns = [("attributes.zip", "Shipping Zip"), ("attributes.tags", "Tags")];
    let options = ImportOptions {
        format: "shopify".to_owned(),
        columns: columns.map(|(a, b)| (a.to_owned(), b.to_owned())).into(),
        ..ImportOptions::default()
    };
    shop.try_import(&shop.file(text), &options).await.unwrap();
    assert!(
        shop.orders().await[0].ends_with(r#"{"zip": "01000", "tags": "'t Hart"}"#),
        "{:?}",
        shop.orders().await
    );
}

fn backoffice() -> OrderMapping {
    let columns = [
        ("order_id", "Numéro"),
        ("email", "E-mail"),
        ("ordered_at", "Date"),
        ("fulfilled_at", "Livrée le"),
        ("status", "État"),
        ("first_name", "Prénom"),
        ("total", "Total"),
    ];
    let text = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
    OrderMapping {
        text: TextFormat { date_format: Some("%d/%m/%Y %H:%M".to_owned()), ..TextFormat::default() },
        columns: columns.map(text).into(),
        attributes: [text(("region", "Région"))].into(),
        status: BTreeMap::from([
            ("Livrée".to_owned(), OrderStatus::Fulfilled),
            ("Annulée".to_owned(), OrderStatus::Cancelled),
            ("*".to_owned(), OrderStatus::Open),
        ]),
    }
}

#[tokio::test]
async fn a_mapped_file_in_windows_1252_is_recognised() {
    let mut shop = Shop::new().await;
    shop.config.order_formats.insert("backoffice".to_owned(), backoffice());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/orders/backoffice.csv");
    let report = shop.try_import(&path, &ImportOptions::default()).await.unwrap();
    assert_eq!(counts(&report), [3, 3, 0, 0, 0], "{report:?}");
    assert_eq!(
        (report.format.as_str(), report.encoding, report.delimiter),
        ("backoffice", "windows-1252", ';')
    );
    assert!(report.encoding_guessed);
    assert_eq!(
        shop.orders().await,
        [
            "A-1|claire.dubois@customer.example|Claire|2025-12-31 17:05:00|2026-01-03 09:00:00|fulfilled|129900|EUR|{}|{\"region\": \"Île-de-France\"}",
            "A-2|tom.baker@customer.example|Tom|2026-01-02 08:30:00|open|1250|{}|{\"region\": \"Bretagne\"}",
            "A-3|anais.petit@customer.example|Anaïs|2026-01-03 10:00:00|cancelled|129900|{}|{\"region\": \"Bretagne\"}",
        ]
    );
}

#[tokio::test]
async fn byte_order_marks_and_utf_16() {
    let text = "order_id,email,ordered_at,first_name\r\n1,a@customer.example,2026-05-01,Zoë\r\n";
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, encoding) in [
        ([&b"\xef\xbb\xbf"[..], text.as_bytes()].concat(), "UTF-8"),
        ([&b"\xff\xfe"[..], &wide].concat(), "UTF-16LE"),
    ] {
        let shop = Shop::new().await;
        let report = shop.import(content).await;
        assert_eq!((report.encoding, report.n_inserted), (encoding, 1));
        let names = shop.select("select first_name from customer where shop_id = $1").await;
        assert_eq!(names, ["Zoë"]);
    }
}

const THREE: &str =
    "order_id,email,ordered_at,fulfilled_at,status,first_name,total,currency,attributes.channel
1,a@customer.example,2026-05-01 10:00,,open,Ada,10.00,EUR,web
2,B@customer.example,2026-05-02 10:00,2026-05-04 10:00,fulfilled,Bo,20.00,EUR,app
3,a@customer.example,2026-05-03 10:00,,open,,30.00,EUR,web
";

/// Changes with any write to these tables.
const TRACES: &str = r#"select string_agg(t, ' ' order by t) from (
    select 'o' || external_id || ':' || xmin || ':' || updated_at as t from "order" where shop_id = $1
    union all select 'c' || customer_id || ':' || xmin from customer where shop_id = $1) x"#;

#[tokio::test]
async fn reading_a_file_again_changes_nothing() {
    let shop = Shop::new().await;
    let path = shop.file(THREE);
    let options = ImportOptions::default();
    shop.try_import(&path, &options).await.unwrap();
    let before = shop.select(TRACES).await;

    let report = shop.import_at(&path, &options, "2026-06-02T12:00:00Z").await.unwrap();
    let earlier = report.already_imported.clone().unwrap();
    assert_eq!((earlier.n_read, earlier.finished_at), (3, at("2026-06-01T12:00:00Z")));
    assert_eq!(counts(&report), [0, 0, 0, 0, 0]);

    let again = ImportOptions { again: true, ..options.clone() };
    let report = shop.import_at(&path, &again, "2026-06-02T12:00:00Z").await.unwrap();
    assert_eq!(counts(&report), [3, 0, 0, 3, 0]);
    assert_eq!(shop.select(TRACES).await, before);

    // Another definition of the format is another reading, even of the same bytes.
    let zone = TextFormat { timezone: Some(chrono_tz::UTC), ..TextFormat::default() };
    let report = shop.try_import(&path, &ImportOptions { text: zone, ..options }).await.unwrap();
    assert_eq!(counts(&report), [3, 0, 3, 0, 0]);
}

#[tokio::test]
async fn what_changed_is_updated_and_nothing_else() {
    let shop = Shop::new().await;
    shop.import(THREE).await;
    let before = shop.select(TRACES).await.remove(0);
    let changed = THREE
        .replace(
            "1,a@customer.example,2026-05-01 10:00,,open",
            "1,a@customer.example,2026-05-01 10:00,2026-05-05,fulfilled",
        )
        .replace("B@customer", "corrected@customer");
    let path = shop.file(&changed);
    let report = shop.import_at(&path, &ImportOptions::default(), "2026-06-02T12:00:00Z").await.unwrap();
    assert_eq!(counts(&report), [3, 0, 2, 1, 0]);
    let after = shop.select(TRACES).await.remove(0);
    let unchanged = |traces: &str| -> Vec<String> {
        traces.split(' ').filter(|t| t.starts_with("o3") || t.starts_with('c')).map(str::to_owned).collect()
    };
    assert!(unchanged(&after).starts_with(&unchanged(&before)[..2]), "{before}\n{after}");
    let orders = shop.orders().await;
    assert!(orders[0].contains("|2026-05-04 22:00:00|fulfilled|"), "{}", orders[0]);
    assert!(orders[1].contains("2|corrected@customer.example|Bo|"), "{}", orders[1]);
}

#[tokio::test]
async fn a_file_with_fewer_columns_leaves_the_others_alone() {
    let shop = Shop::new().await;
    shop.import(THREE).await;
    let report = shop.import("order_id,email,ordered_at\n1,a@customer.example,2026-05-01 10:00\n").await;
    assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
    let report = shop
        .import("order_id,email,ordered_at,fulfilled_at\n1,a@customer.example,2026-05-01 10:00,2026-05-06\n")
        .await;
    assert_eq!(counts(&report), [1, 0, 1, 0, 0]);
    let first = shop.orders().await.remove(0);
    assert_eq!(
        first,
        "1|a@customer.example|Ada|2026-05-01 08:00:00|2026-05-05 22:00:00|fulfilled|1000|EUR|{}|{\"channel\": \"web\"}"
    );
}

#[tokio::test]
async fn the_last_row_of_an_order_and_the_last_name_of_a_customer_hold() {
    let shop = Shop::new().await;
    let text = "order_id,email,ordered_at,status,first_name
1,a@customer.example,2026-05-01,open,Ada
1,A@Customer.example,2026-05-01,cancelled,Adele
2,a@customer.example,2026-05-02,open,
";
    let report = shop.import(text).await;
    assert_eq!(counts(&report), [3, 2, 0, 1, 0]);
    assert!(shop.orders().await[0].contains("|cancelled|"));
    let customers = "select email || '|' || first_name from customer where shop_id = $1";
    assert_eq!(shop.select(customers).await, ["a@customer.example|Adele"]);
    let before = shop.select(TRACES).await;
    let options = ImportOptions { again: true, ..ImportOptions::default() };
    let report = shop.try_import(&shop.file(text), &options).await.unwrap();
    assert_eq!(counts(&report), [3, 0, 0, 3, 0]);
    assert_eq!(shop.select(TRACES).await, before);
}

#[tokio::test]
async fn an_erased_customer_does_not_come_back() {
    let shop = Shop::new().await;
    shop.import(THREE).await;
    sqlx::query("update customer set email = null, email_key = null, first_name = null, erased_at = now() where email_key = 'a@customer.example'")
        .execute(&shop.db.pool)
        .await
        .unwrap();
    let options = ImportOptions { again: true, ..ImportOptions::default() };
    let report = shop.try_import(&shop.file(THREE), &options).await.unwrap();
    assert_eq!(counts(&report), [3, 0, 0, 3, 0]);
    let addresses = "select email from customer where shop_id = $1 and email is not null";
    assert_eq!(shop.select(addresses).await, ["B@customer.example"]);
}

#[tokio::test]
async fn bad_rows_are_rejected_with_their_place_and_the_others_go_in() {
    let shop = Shop::new().await;
    let long = "x".repeat(70_000);
    let text = format!(
        "order_id,email,ordered_at,status,locale,country,total,first_name
1,a@customer.example,2026-05-01,,fr,fr,10,\"Ann\r\nBcc: x\0\"
2,not an address,2026-05-01,,,,,
3,a@customer.example,31/12/2026,,,,,
4,a@customer.example,2026-05-01,lost,,,,
5,a@customer.example,2026-05-01,,français,,,
6,a@customer.example,2026-05-01,,,FRA,,
7,a@customer.example,2026-05-01,,,,12.345.6,
,a@customer.example,2026-05-01,,,,,
8\0,a@customer.example,2026-05-01,,,,,
9,a@customer.example
10,a@customer.example,2026-05-01,,,,,{long}
11,a@customer.example,2026-05-01,,,,,last
"
    );
    let rejects_file = shop.dir.path().join("orders.rejects.csv");
    let path = shop.file(&text);
    assert_eq!(rejects::beside(&path), rejects_file);
    let options = ImportOptions { rejects: Some(rejects_file.clone()), ..ImportOptions::default() };
    let report = shop.try_import(&path, &options).await.unwrap();
    assert_eq!(counts(&report), [12, 2, 0, 0, 10]);
    let shown: Vec<String> = report
        .rejects
        .iter()
        .map(|r| format!("{} {} {}", r.line, r.column.as_deref().unwrap_or("-"), r.reason))
        .collect();
    assert_eq!(
        shown,
        [
            "4 email is not a mail address",
            "5 ordered_at has the day or the month first; state the date format, such as %d/%m/%Y %H:%M",
            "6 status is none of cancelled, fulfilled, open, refunded",
            "7 locale is not a language tag such as fr or pt-BR",
            "8 country is not a country of two letters such as FR",
            "9 total is not an amount such as 1299.00 or 1.299,00",
            "10 order_id is empty",
            "11 order_id contains a control character",
            "12 - has 2 columns where the header has 8",
            "13 first_name is longer than 64 KiB",
        ]
    );
    let stored = r#"select concat_ws(' ', line, "column", reason) from import_reject where shop_id = $1 order by line"#;
    assert_eq!(shop.select(stored).await.len(), 10);
    let row = shop.select(r#"select "row" from import_reject where shop_id = $1 and line = 11"#).await;
    assert_eq!(row, ["8\u{2400},a@customer.example,2026-05-01,,,,,"]);
    let name = shop.select("select first_name from customer where shop_id = $1").await;
    assert_eq!(name, ["last"]);

    // Corrected, the file of rejects goes in as it is.
    let written = std::fs::read_to_string(&rejects_file).unwrap();
    assert!(written.starts_with(
        "order_id,email,ordered_at,status,locale,country,total,first_name,line,column,reason\n"
    ));
    let corrected = written.replace("lost", "open").replace("not an address", "c@customer.example");
    let report = shop.import(&corrected).await;
    // Two that were corrected, and the one whose NUL has become a sign.
    assert_eq!(counts(&report), [10, 3, 0, 0, 7], "{report:?}");
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(std::fs::metadata(&rejects_file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_dry_run_and_a_broken_file_leave_nothing() {
    let shop = Shop::new().await;
    let options = ImportOptions { dry_run: true, ..ImportOptions::default() };
    let report = shop.try_import(&shop.file(THREE), &options).await.unwrap();
    assert_eq!(counts(&report), [3, 3, 0, 0, 0]);

    let broken = format!("{THREE}4,\"d@customer.example,2026-05-01,,,,,,\n");
    let error = shop.try_import(&shop.file(broken), &ImportOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("a quote (\") on line 5 that is not closed"), "{error}");

    let nothing = r#"select 'o' from "order" where shop_id = $1 union all select 'c' from customer where shop_id = $1
                     union all select 'r' from import_run where shop_id = $1"#;
    assert!(shop.select(nothing).await.is_empty());
    // The connection that the broken file was read on works.
    assert_eq!(shop.import(THREE).await.n_inserted, 3);
}

#[tokio::test]
async fn files_that_are_none() {
    let shop = Shop::new().await;
    let check = async |path: &Path, expected: &str| {
        let error = shop.try_import(path, &ImportOptions::default()).await.unwrap_err();
        assert!(matches!(error, ImportError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(shop.dir.path(), "is a directory").await;
    check(&shop.dir.path().join("missing.csv"), "is not there").await;
    check(&shop.file(""), "is empty").await;
    check(&shop.file("c,".repeat(10_000)), "has 10001 columns").await;
    check(&shop.file("a,b\n1,2\n"), "fits no known format. It has the columns a, b.").await;
    check(&shop.file("order_id,email,ordered_at,emial\n"), "did you mean `email`?").await;
    let header_only = shop.import("order_id,email,ordered_at\n").await;
    assert_eq!(counts(&header_only), [0, 0, 0, 0, 0]);
}

#[tokio::test]
async fn two_imports_of_one_file_at_once_are_one() {
    let shop = Shop::new().await;
    let path = shop.file(THREE);
    let options = ImportOptions::default();
    let (a, b) = tokio::join!(shop.try_import(&path, &options), shop.try_import(&path, &options));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.n_inserted + b.n_inserted, 3);
    assert_eq!(shop.orders().await.len(), 3);
}

#[tokio::test]
async fn an_import_that_is_told_to_stop_takes_nothing_and_the_file_is_not_known() {
    let shop = Shop::new().await;
    let mut text = "order_id,email,ordered_at\n".to_owned();
    for i in 0..30_000 {
        text.push_str(&format!("{i},c{i}@customer.example,2026-05-01\n"));
    }
    let path = shop.file(text);
    let to = Destination { pool: &shop.db.pool, shop: shop.id, config: &shop.config.shops[0] };
    let options = ImportOptions::default();
    // Some of the rows are on their way by then.
    let stop = |n: u64, _: u64| {
        if n > 0 {
            options.stop.cancel();
        }
    };
    let clock = Clock::Fixed(at("2026-06-01T12:00:00Z"));
    let stopped = import_orders(to, &shop.config.order_formats, &path, &options, clock, &stop).await;
    assert!(matches!(stopped, Err(ImportError::Stopped)), "{stopped:?}");
    assert!(shop.orders().await.is_empty());
    let report = shop.try_import(&path, &ImportOptions::default()).await.unwrap();
    assert_eq!(counts(&report), [30_000, 30_000, 0, 0, 0]);
}

#[tokio::test]
async fn an_import_by_hand_that_was_taken_back_is_done_again() {
    let shop = Shop::new().await;
    let path = shop.file(THREE);
    sqlx::raw_sql(
        "create sequence tries;
         create function be_taken_back() returns trigger language plpgsql as $$
         begin
             if nextval('tries') = 1 then raise exception 'for the sake of another' using errcode = '40001'; end if;
             return null;
         end $$;
         create trigger be_taken_back after insert on import_run for each statement execute function be_taken_back()",
    )
    .execute(&shop.db.pool)
    .await
    .unwrap();
    let options = ImportOptions::default();
    // What can be read only once cannot be done again.
    let piped = once_more_if_taken_back(Path::new("-"), || shop.try_import(&path, &options)).await;
    assert!(matches!(piped, Err(ImportError::Database(_))), "{piped:?}");
    sqlx::raw_sql("alter sequence tries restart").execute(&shop.db.pool).await.unwrap();
    let report = once_more_if_taken_back(&path, || shop.try_import(&path, &options)).await.unwrap();
    assert_eq!(counts(&report), [3, 3, 0, 0, 0]);
}

/// Triggers see to it that look at a whole statement at once.
#[tokio::test]
async fn every_order_has_a_customer_and_every_customer_a_shop() {
    let shop = Shop::new().await;
    shop.import(THREE).await;
    factories::shop(&shop.db.pool, "empty").await;
    let refused = async |sql: &'static str, expected: &str| {
        let error = sqlx::raw_sql(sql).execute(&shop.db.pool).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code());
        assert_eq!(code.as_deref(), Some(expected), "{sql}");
    };
    const NO_PARENT: &str = "23503";
    const MUST_STAY: &str = "23001";
    refused(
        "insert into customer (shop_id, email, email_key) values (4711, 'x@y.example', 'x@y.example')",
        NO_PARENT,
    )
    .await;
    let insert = r#"insert into "order" (shop_id, external_id, customer_id, ordered_at, status, items, attributes, imported_at, updated_at)
        select shop_id, 'x' || external_id, case external_id when '3' then 0 else customer_id end, ordered_at, status, items, attributes,
            imported_at, updated_at from "order""#;
    refused(insert, NO_PARENT).await;
    refused(r#"update "order" set customer_id = 0 where external_id = '3'"#, NO_PARENT).await;
    refused("delete from customer", MUST_STAY).await;
    refused("update customer set customer_id = default where email_key = 'a@customer.example'", MUST_STAY)
        .await;
    refused("truncate customer", MUST_STAY).await;
    refused("delete from shop where key = 'empty'", MUST_STAY).await;
    refused("truncate shop cascade", MUST_STAY).await;
    assert_eq!(shop.orders().await.len(), 3);
    sqlx::raw_sql(r#"truncate customer, "order" cascade"#).execute(&shop.db.pool).await.unwrap();
}

/// A large file takes longer than a statement may take elsewhere, and an import behind it waits longer than others wait for a lock.
#[tokio::test]
async fn an_import_may_take_long_and_wait_long() {
    let shop = Shop::new().await;
    sqlx::raw_sql(
        r#"create function dawdle() returns trigger language plpgsql as $$ begin perform pg_sleep(4); return null; end $$;
           create trigger dawdle after insert on "order" for each statement execute function dawdle()"#,
    )
    .execute(&shop.db.pool)
    .await
    .unwrap();
    let hasty = PgPoolOptions::new()
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::raw_sql("set statement_timeout = '3s'; set lock_timeout = '2s'")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .connect(&shop.db.url)
        .await
        .unwrap();
    let to = Destination { pool: &hasty, shop: shop.id, config: &shop.config.shops[0] };
    let (options, clock) = (ImportOptions::default(), Clock::Fixed(at("2026-06-01T12:00:00Z")));
    let formats = &shop.config.order_formats;
    let (a, b) = (shop.file(THREE), shop.dir.path().join("b.csv"));
    std::fs::write(&b, THREE.replace("maison", "maisonnette") + "\n").unwrap();
    let (a, b) = tokio::join!(
        import_orders(to, formats, &a, &options, clock, &|_, _| {}),
        import_orders(to, formats, &b, &options, clock, &|_, _| {}),
    );
    assert_eq!(a.unwrap().n_inserted + b.unwrap().n_inserted, 3);
}

#[tokio::test]
async fn states_are_the_same_in_the_database_and_here() {
    let db = TestDb::new().await;
    let found: Vec<String> = sqlx::query_scalar("select unnest(enum_range(null::order_status))::text")
        .fetch_all(&db.pool)
        .await
        .unwrap();
    assert_eq!(found, OrderStatus::ALL.map(|status| status.as_str().to_owned()));
    for status in OrderStatus::ALL {
        let back: OrderStatus =
            sqlx::query_scalar("select $1::order_status").bind(status).fetch_one(&db.pool).await.unwrap();
        assert_eq!(back, status);
        let label: String = sqlx::query_scalar("select $1::order_status::text")
            .bind(status)
            .fetch_one(&db.pool)
            .await
            .unwrap();
        assert_eq!(label, status.as_str());
    }
    for kind in [ImportKind::Orders, ImportKind::Responses, ImportKind::Ratings] {
        let back: ImportKind =
            sqlx::query_scalar("select $1::import_kind").bind(kind).fetch_one(&db.pool).await.unwrap();
        assert_eq!(back, kind);
    }
}

#[test]
fn whatever_comes_accepted_and_rejected_are_what_was_read() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let shop = runtime.block_on(Shop::new());
    let field = prop_oneof![
        Just("a@customer.example".to_owned()),
        Just("2026-05-01 10:00".to_owned()),
        Just("\"1\n2\"".to_owned()),
        Just("12,50".to_owned()),
        Just("\0".to_owned()),
        "[0-9]{1,3}",
        "\\PC{0,8}",
    ];
    let row = proptest::collection::vec(field, 0..5).prop_map(|fields| fields.join(","));
    let rows = proptest::collection::vec(row, 0..12);
    let tail = proptest::collection::vec(any::<u8>(), 0..40);
    proptest!(ProptestConfig::with_cases(48), |(rows in rows, tail in tail)| {
        let mut content = b"order_id,email,ordered_at,total\n7,z@customer.example,2026-05-01,1\n".to_vec();
        content.extend(rows.join("\n").bytes());
        content.push(b'\n');
        content.extend(tail);
        // `import_at` compares the counts; an unreadable file is an answer too.
        match runtime.block_on(shop.try_import(&shop.file(content), &ImportOptions::default())) {
            Ok(report) => prop_assert!(report.already_imported.is_some() || report.n_read >= 1),
            Err(error) => prop_assert!(matches!(error, ImportError::Unusable(_)), "{error:?}"),
        }
    });
    // The database's own arithmetic agrees.
    let sums: bool = runtime
        .block_on(
            sqlx::query_scalar(
                "select bool_and(n_rejected = (select count(*) from import_reject j where j.import_run_id = r.import_run_id)) from import_run r",
            )
            .fetch_one(&shop.db.pool),
        )
        .unwrap();
    assert!(sums);
}

#[tokio::test]
async fn the_command() {
    let program = Program::new(&shipped()).await;
    program.write("good.csv", THREE);
    program.write(
        "bad.csv",
        "order_id,email,ordered_at\n8,nobody,2026-05-01\n9,d@customer.example,2026-05-01\n",
    );
    program.write("foreign.csv", "No;Mail;Wann;Ort\n10;e@customer.example;31.12.2025;Köln\n");

    let ran = program.run(&["import", "orders", "good.csv", "--json"]).expect(0);
    assert_eq!(ran.json()[0]["n_inserted"], 3);
    let ran = program.run(&["import", "orders", "good.csv"]).expect(0);
    assert!(ran.stderr.contains("was imported on"), "{}", ran.stderr);
    let ran = program.run(&["import", "orders", "missing.csv", "bad.csv"]).expect(1);
    assert!(ran.stderr.contains("missing.csv: is not there"), "{}", ran.stderr);
    assert!(ran.stderr.contains("bad.csv: line 2, email: is not a mail address"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("nobody"), "{}", ran.stderr);
    program.run(&["import", "orders", "bad.csv", "--again", "--rejects", "out.csv"]).expect(3);
    assert!(program.path("out.csv").is_file());
    // What could not be written is named, not the file that was read.
    let ran =
        program.run(&["import", "orders", "bad.csv", "--again", "--rejects", "good.csv/out.csv"]).expect(1);
    assert!(ran.stderr.contains("the rejects cannot be written to good.csv/out.csv"), "{}", ran.stderr);
    let ran = program
        .run(&[
            "import",
            "orders",
            "foreign.csv",
            "--json",
            "--shop",
            "maison",
            "--map",
            "order_id=No",
            "--map",
            "email=Mail",
            "--map",
            "ordered_at=Wann",
            "--map",
            "attributes.city=Ort",
            "--date-format",
            "%d.%m.%Y",
        ])
        .expect(0);
    assert_eq!(ran.json()[0]["n_inserted"], 1);
    program.run(&["import", "orders", "good.csv", "--shop", "maisn"]).expect(2);
}

/// The country decides whether a customer may be asked, so it must not be lost because nothing was shipped.
#[tokio::test]
async fn what_was_not_shipped_is_of_the_country_of_the_bill_and_what_was_not_paid_is_called_off() {
    let shop = Shop::new().await;
    let order = |name, shipping, billing| {
        [
            ("Name", name),
            ("Email", "a@customer.example"),
            ("Created at", "2026-05-01 10:00:00 +0200"),
            ("Financial Status", "paid"),
            ("Shipping Country", shipping),
            ("Billing Country", billing),
            ("Lineitem name", "Tea"),
        ]
    };
    let (both, billed) = (order("#1", "FR", "DE"), order("#2", "", "DE"));
    shop.import(sheet(&header_of("shopify"), ',', &[&both[..], &billed])).await;
    let countries: Vec<(String, Option<String>)> =
        sqlx::query_as(r#"select external_id, country from "order" order by 1"#)
            .fetch_all(&shop.db.pool)
            .await
            .unwrap();
    let country = |order: &str, country: &str| (order.to_owned(), Some(country.to_owned()));
    assert_eq!(countries, [country("#1", "FR"), country("#2", "DE")]);

    let shop = Shop::new().await;
    let text = "Order Number,Order Status,Order Date,Email (Billing)\n\
                1,Pending payment,2026-05-01 10:00,a@customer.example\n\
                2,wc-checkout-draft,2026-05-01 10:00,a@customer.example\n\
                3,Processing,2026-05-01 10:00,a@customer.example\n";
    let report = shop.import(text).await;
    assert_eq!(report.format, "woocommerce");
    let states: Vec<(String, String)> =
        sqlx::query_as(r#"select external_id, status::text from "order" order by 1"#)
            .fetch_all(&shop.db.pool)
            .await
            .unwrap();
    let expected = [("1", "cancelled"), ("2", "cancelled"), ("3", "open")];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state.to_owned())));
}
