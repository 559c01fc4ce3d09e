//! [1] The files that shop platforms write, with what such files really contain. Each is recognised by its header.

use std::path::Path;

use afterword::cli::init::SHIPPED;
use afterword::config::Config;
use afterword::import::ImportError;
use afterword::import::run::{Destination, ImportOptions, ImportReport};
use afterword::orders::format::ORDER_FORMATS;
use afterword::orders::import::import_orders;
use afterword::types::{Clock, ShopId};
use tempfile::TempDir;

use crate::support::{TestDb, data_dir, factories, factories::at};

struct Shop {
    db: TestDb,
    id: ShopId,
    dir: TempDir,
}

impl Shop {
    async fn new() -> Self {
        let db = TestDb::new().await;
        let id = factories::shop(&db.pool, "maison").await;
        Self { db, id, dir: data_dir() }
    }

    async fn try_import(
        &self,
        content: &[u8],
        date_format: Option<&str>,
    ) -> Result<ImportReport, ImportError> {
        let path = self.dir.path().join("export.csv");
        std::fs::write(&path, content).unwrap();
        let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
        let to = Destination { pool: &self.db.pool, shop: self.id, config: &config.shops[0] };
        let mut options = ImportOptions { again: true, ..ImportOptions::default() };
        options.text.date_format = date_format.map(str::to_owned);
        let clock = Clock::Fixed(at("2026-06-01T12:00:00Z"));
        let report = import_orders(to, &config.order_formats, &path, &options, clock, &|_, _| {}).await;
        if let Ok(report) = &report {
            let parts = report.n_inserted + report.n_updated + report.n_unchanged + report.n_rejected;
            assert_eq!(parts, report.n_read, "{report:?}");
        }
        report
    }

    /// Imports a file of this format, and once more, which changes nothing.
    async fn import(&self, format: &str, content: impl AsRef<[u8]>) -> ImportReport {
        let report = self.try_import(content.as_ref(), None).await.unwrap();
        assert_eq!(report.format, format);
        let again = self.try_import(content.as_ref(), None).await.unwrap();
        assert_eq!((again.n_inserted, again.n_updated, again.n_rejected), (0, 0, report.n_rejected));
        report
    }

    async fn orders(&self) -> Vec<String> {
        let sql = r#"select concat_ws('|', o.external_id, c.email, c.first_name, c.last_name, o.ordered_at at time zone 'UTC',
                 o.fulfilled_at at time zone 'UTC', o.status, o.total, o.currency, o.items, o.locale, o.country)
               from "order" o join customer c using (shop_id, customer_id) where shop_id = $1 order by o.ordered_at, o.external_id"#;
        sqlx::query_scalar(sql).bind(self.id).fetch_all(&self.db.pool).await.unwrap()
    }
}

fn sample(format: &str) -> &'static str {
    ORDER_FORMATS.iter().find(|built_in| built_in.key == format).unwrap().sample
}

/// A file with this header, rows given by column name.
fn file(format: &str, rows: &[&[(&str, &str)]]) -> String {
    let delimiter = if format == "prestashop" { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(sample(format).as_bytes());
    let header = reader.headers().unwrap().clone();
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(Vec::new());
    writer.write_record(&header).unwrap();
    for row in rows {
        for (column, _) in *row {
            assert!(header.iter().any(|name| name == *column), "{column}");
        }
        let cell = |name: &str| row.iter().find(|(column, _)| *column == name).map_or("", |(_, value)| value);
        writer.write_record(header.iter().map(cell)).unwrap();
    }
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

fn reasons(report: &ImportReport) -> Vec<(u64, Option<&str>, &str)> {
    report
        .rejects
        .iter()
        .map(|reject| (reject.line, reject.column.as_deref(), reject.reason.as_str()))
        .collect()
}

#[tokio::test]
async fn shopify() {
    let shop = Shop::new().await;
    let report = shop.import("shopify", sample("shopify")).await;
    assert_eq!((report.n_read, report.n_inserted, report.n_unchanged), (3, 2, 1), "a row is an item");
    assert_eq!(
        shop.orders().await,
        [
            "#1001|claire.dubreuil@customer.example|Claire|Dubreuil|2026-03-01 09:00:00|2026-03-03 14:30:00|fulfilled|8900|EUR|{BOL-GRES,\"Wool plaid\"}|FR",
            "#1002|hugo.marchetti@customer.example|Hugo|Marchetti|2026-03-02 07:59:00|2026-03-04 10:00:00|refunded|3900|EUR|{BOL-GRES}|FR",
        ]
    );
}

#[tokio::test]
async fn shopify_as_it_really_is() {
    let shop = Shop::new().await;
    let when = ("Created at", "2026-03-01 10:00:00 +0100");
    let item = ("Lineitem name", "Grès bowl");
    let paid = ("Financial Status", "paid");
    let content = file(
        "shopify",
        &[
            // The file begins in the middle of an order.
            &[("Name", "#1000"), item],
            // Sold at the counter: nobody's address.
            &[("Name", "#1001"), paid, when, item],
            &[("Name", "#1001"), item],
            // Cancelled before it was delivered; no name.
            &[
                ("Name", "#1002"),
                ("Email", "a@customer.example"),
                paid,
                when,
                ("Cancelled at", "2026-03-01 11:00:00 +0100"),
                item,
            ],
            // The shop tries itself out.
            &[
                ("Name", "#1003"),
                ("Email", "owner@maison.example"),
                paid,
                when,
                ("Payment Method", "(for testing) Bogus Gateway"),
                item,
            ],
            // The same thing twice, under one name; the address on every row.
            &[
                ("Name", "#1004"),
                ("Email", "Zoé@customer.example"),
                paid,
                when,
                item,
                ("Billing Name", "Zoé"),
            ],
            &[("Name", "#1004"), ("Email", "Zoé@customer.example"), item],
            &[("Name", "#1004"), ("Email", "Zoé@customer.example"), ("Lineitem sku", "P-1|P-2")],
            // The same order again further down, delivered now.
            &[
                ("Name", "#1004"),
                ("Email", "Zoé@customer.example"),
                paid,
                when,
                item,
                ("Billing Name", "Zoé"),
            ],
            &[
                ("Name", "#1005"),
                ("Email", "b@customer.example"),
                paid,
                when,
                item,
                ("Billing Zip", "'06000"),
            ],
            &[
                ("Name", "#1004"),
                ("Email", "Zoé@customer.example"),
                paid,
                when,
                item,
                ("Billing Name", "Zoé"),
                ("Fulfilled at", "2026-03-05 10:00:00 +0100"),
            ],
        ],
    );
    // Line ends as they come from several systems.
    let mixed = content.replacen('\n', "\r\n", 3);
    let report = shop.import("shopify", mixed).await;
    assert_eq!((report.n_read, report.n_inserted, report.n_rejected), (11, 3, 4));
    assert_eq!(
        reasons(&report),
        [
            (2, None, "is a further line of an order whose first line is not before it"),
            (3, Some("Email"), "is empty"),
            (4, None, "belongs to the order of line 3, which was rejected"),
            (6, Some("Payment Method"), "shows that this is a test order"),
        ]
    );
    assert_eq!(
        shop.orders().await,
        [
            "#1002|a@customer.example|2026-03-01 09:00:00|cancelled|{\"Grès bowl\"}",
            "#1004|Zoé@customer.example|Zoé|2026-03-01 09:00:00|2026-03-05 09:00:00|fulfilled|{\"Grès bowl\"}",
            "#1005|b@customer.example|2026-03-01 09:00:00|open|{\"Grès bowl\"}",
        ]
    );
}

#[tokio::test]
async fn woocommerce() {
    let shop = Shop::new().await;
    let report = shop.import("woocommerce", sample("woocommerce")).await;
    assert_eq!((report.n_read, report.n_inserted), (2, 2));
    let expected = [
        "4993|claire.dubreuil@customer.example|Claire|Dubreuil|2026-03-01 09:00:00|2026-03-03 14:30:00|fulfilled|8900|EUR|{}|FR",
        "4994|hugo.marchetti@customer.example|Hugo|Marchetti|2026-03-02 07:59:00|cancelled|3900|EUR|{}|FR",
    ];
    assert_eq!(shop.orders().await, expected);
    // The columns stand in any order.
    let mut reader = csv::Reader::from_reader(sample("woocommerce").as_bytes());
    let rows = std::iter::once(reader.headers().unwrap().clone())
        .chain(reader.records().map(Result::unwrap).collect::<Vec<_>>());
    let mut turned = csv::Writer::from_writer(Vec::new());
    for row in rows.collect::<Vec<_>>() {
        turned.write_record(row.iter().collect::<Vec<_>>().into_iter().rev()).unwrap();
    }
    let report = shop.import("woocommerce", turned.into_inner().unwrap()).await;
    assert_eq!((report.n_inserted, report.n_updated), (0, 0));

    // The labels of another plugin, a row for each item, states in French and one of the shop's own.
    let labels = "\u{feff}Order Number;Order Status;Order Date;First Name (Billing);Last Name (Billing);Country Code (Billing);Email (Billing);Order Total Amount;Item Name;SKU\r\n\
                  5001;Terminée;2026-03-01 10:00;Zoé;Lefèvre;FR;zoe@customer.example;89,00;Bol en grès;BOL-GRES\r\n\
                  5001;Terminée;2026-03-01 10:00;Zoé;Lefèvre;FR;zoe@customer.example;89,00;Plaid;\r\n\
                  5002;Imprimée;2026-03-02 10:00;;;FR;anna@customer.example;1 039,00;Bol en grès;BOL-GRES\r\n\
                  5003;Échouée;2026-03-02 10:00;;;FR;anna@customer.example;39,00;Bol en grès;BOL-GRES\r\n";
    let report = shop.import("woocommerce", labels).await;
    assert_eq!((report.n_read, report.n_inserted, report.n_unchanged), (4, 3, 1));
    let theirs: Vec<String> =
        shop.orders().await.into_iter().filter(|order| order.starts_with('5')).collect();
    assert_eq!(
        theirs,
        [
            "5001|zoe@customer.example|Zoé|Lefèvre|2026-03-01 09:00:00|fulfilled|8900|{BOL-GRES,Plaid}|FR",
            "5002|anna@customer.example|2026-03-02 09:00:00|open|103900|{BOL-GRES}|FR",
            "5003|anna@customer.example|2026-03-02 09:00:00|cancelled|3900|{BOL-GRES}|FR",
        ]
    );

    // Dates as the site shows them: nobody can tell the day from the month until somebody says so.
    let dates = sample("woocommerce")
        .replace("2026-03-0", "03/0")
        .replace("03/01 10", "03/01/2026 10")
        .replace("03/02 08", "03/02/2026 08")
        .replace("03/03 15", "03/03/2026 15");
    let report = shop.try_import(dates.as_bytes(), None).await.unwrap();
    assert_eq!(report.n_rejected, 2);
    assert!(reasons(&report)[0].2.contains("state the date format"), "{:?}", reasons(&report));
    let report = shop.try_import(dates.as_bytes(), Some("%m/%d/%Y %H:%M:%S")).await.unwrap();
    assert_eq!((report.n_rejected, report.n_unchanged), (0, 2));
}

#[tokio::test]
async fn magento() {
    let shop = Shop::new().await;
    let report = shop.import("magento", sample("magento")).await;
    assert_eq!((report.n_read, report.n_inserted), (2, 2));
    let expected = [
        "000000101|claire.dubreuil@customer.example|Claire|Dubreuil|2026-03-01 09:00:00|fulfilled|8900|{}",
        "000000102|hugo.marchetti@customer.example|Hugo|Marchetti|2026-03-02 14:28:20|cancelled|3900|{}",
    ];
    assert_eq!(shop.orders().await, expected);

    // As it is exported by default.
    let hidden = "ID,\"Purchase Point\",\"Purchase Date\",\"Bill-to Name\",\"Ship-to Name\",\"Grand Total (Base)\",\"Grand Total (Purchased)\",Status\n\
                  000000101,Main,\"Mar 1, 2026 10:00:00 AM\",Claire,Claire,89,89,Complete\n";
    let error = shop.try_import(hidden.as_bytes(), None).await.unwrap_err().to_string();
    assert!(error.contains("switch on Customer Email"), "{error}");

    let french = "ID;Date d'achat;Statut;Email du client;Nom du client\n\
                  7;\"Mar 1, 2026 10:00:00 AM\";Annulée;zoe@customer.example;Zoé Lefèvre\n\
                  8;\"Mar 1, 2026 10:00:00 AM\";Perdue;zoe@customer.example;Zoé Lefèvre\n";
    let (french, _, _) = encoding_rs::WINDOWS_1252.encode(french);
    let report = shop.import("magento", french).await;
    assert_eq!(reasons(&report).len(), 1, "a state that nobody knows may be a cancellation");
    assert!(reasons(&report)[0].2.starts_with("is none of "), "{:?}", reasons(&report));
    assert_eq!(shop.orders().await[1], "7|zoe@customer.example|Zoé|Lefèvre|2026-03-01 09:00:00|cancelled|{}");
}

#[tokio::test]
async fn prestashop() {
    let shop = Shop::new().await;
    let report = shop.import("prestashop", sample("prestashop")).await;
    assert_eq!((report.n_read, report.n_inserted, report.n_unchanged), (3, 2, 1));
    assert_eq!(
        shop.orders().await,
        [
            "XKBKNABJK|claire.dubreuil@customer.example|Claire|Dubreuil|2026-03-01 09:00:00|2026-03-03 14:30:00|fulfilled|8900|EUR|{BOL-GRES,PLAID-LAINE}|fr|FR",
            "OHSATSERP|hugo.marchetti@customer.example|Hugo|Marchetti|2026-03-02 07:59:00|cancelled|3900|EUR|{BOL-GRES}|fr|FR",
        ]
    );
    for list in [
        "ID;Reference;New client;Delivery;Customer;Total;Payment;Status;Date\n1;XKBKNABJK;1;France;C. Dubreuil;89.00;Wire;Delivered;2026-03-01 10:00:00\n",
        "ID;Référence;Nouveau client;Livraison;Client;Total;Paiement;État;Date\n1;XKBKNABJK;1;France;C. Dubreuil;89,00;Virement;Livré;2026-03-01 10:00:00\n",
    ] {
        let error = shop.try_import(list.as_bytes(), None).await.unwrap_err().to_string();
        assert!(
            error.contains("order list, which has no addresses") && error.contains("SQL manager"),
            "{error}"
        );
    }
}
