//! The made-up shop: its customers, their orders, and what each of them would answer. Everybody here is invented, every address lies
//! under `example`, and the same seed gives the same shop every time; only the dates move with today.

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use chrono_tz::Tz;

/// How far back the shop's orders go.
pub const DAYS: u64 = 182;
const N_CUSTOMERS: u64 = 330;
const N_ORDERS: u64 = 420;

/// One order as the shop's file has it, and the person behind it.
pub struct Order {
    pub id: String,
    pub customer: Person,
    pub ordered_at: DateTime<Tz>,
    pub fulfilled_at: Option<DateTime<Tz>>,
    pub status: &'static str,
    pub total_cents: u64,
    pub items: Vec<&'static str>,
    pub channel: &'static str,
}

/// A customer.
#[derive(Clone)]
pub struct Person {
    pub first_name: &'static str,
    pub last_name: &'static str,
    pub email: String,
    pub locale: &'static str,
    pub country: &'static str,
}

/// What somebody does with a mail.
pub enum Reaction {
    Ignores,
    Unsubscribes,
    /// Their mail provider's scanner opens every link and sends the form at once; then the person answers.
    Answers {
        answer: Answer,
        scanner_first: bool,
    },
}

/// What somebody answers.
pub struct Answer {
    pub recommend: &'static str,
    pub overall: u8,
    pub topic: Option<&'static str>,
    pub comment: Option<&'static str>,
    /// The name to publish under, of those who consent.
    pub publish_as: Option<String>,
}

const FRENCH: &[(&str, &str)] = &[
    ("Claire", "Dubreuil"),
    ("Hugo", "Marchetti"),
    ("Léa", "Fontanel"),
    ("Aïcha", "Belkacem"),
    ("Étienne", "Rousselot"),
    ("Maëlle", "Kerguelen"),
    ("Nicolas", "d'Astier"),
    ("Inès", "Villeneuve"),
    ("Bastien", "Lemoigne"),
    ("Chloé", "Sarrazin"),
    ("Yann", "Le Goff"),
    ("Manon", "Peyrade"),
    ("Olivier", "Castaing"),
    ("Sophie-Anne", "Malbec"),
    ("Karim", "Haddad"),
    ("Juliette", "Orsini"),
    ("Théo", "Bonnefoy"),
    ("Margaux", "Delorme"),
    ("Pascal", "Quéméneur"),
    ("Noémie", "Tixier"),
];
const ENGLISH: &[(&str, &str)] = &[
    ("Alice", "Penrose"),
    ("Tom", "Ashdown"),
    ("Priya", "Ramanathan"),
    ("Ewan", "MacLeish"),
    ("Grace", "O'Shea"),
    ("Daniel", "Whitlock"),
    ("Nora", "Lindqvist"),
    ("Samuel", "Okafor"),
    ("Isla", "Thorne"),
    ("Marcus", "Yeo"),
];
const PRODUCTS: &[(&str, u64)] = &[
    ("lin-drap-140", 8900),
    ("lin-taie", 2900),
    ("bol-gres", 1800),
    ("carafe-verre", 3400),
    ("plaid-laine", 11900),
    ("torchon-lot-3", 2400),
    ("bougie-figuier", 2600),
    ("panier-osier", 4500),
    ("nappe-coton", 5900),
];
const HAPPY_FR: &[&str] = &[
    "Livraison rapide et emballage soigné. Le linge est encore plus beau en vrai, merci !",
    "Tout était parfait : la couleur, le toucher, et le petit mot dans le colis.",
    "Deuxième commande et toujours aussi contente. Je recommande les yeux fermés.",
    "Les bols sont magnifiques, chacun un peu différent.\nOn sent le travail fait main.",
    "Très bon accueil au téléphone quand j'ai voulu changer l'adresse de livraison.",
    "Qualité au rendez-vous. Un peu cher, mais ça le vaut.",
];
const HAPPY_EN: &[&str] = &[
    "Arrived two days early, beautifully packed. The blanket is the warmest thing we own.",
    "Lovely linen, true to the photos. Will order again.",
    "The carafe is simple and perfect. \"Just right\", as my mother said.",
    "Quick answer when I asked about washing, and it washed well.",
];
const UNHAPPY_FR: &[&str] = &[
    "Colis livré chez un voisin que je ne connais pas, aucun message. J'ai cherché deux jours.",
    "La nappe a rétréci au premier lavage, pourtant à 30°.",
    "Trois semaines pour un remboursement, et deux appels sans réponse.",
    "Un bol cassé à l'arrivée, carton trop grand et presque vide.",
];
const UNHAPPY_EN: &[&str] = &[
    "The basket came with a broken handle and nobody answered my first mail.",
    "Nice product, but delivery took three weeks and the tracking never moved.",
];
const CHANNELS: &[&str] = &["web", "web", "phone", "newsletter"];
const TOPICS: &[&str] = &["delivery", "product", "returns", "contact", "other"];

/// Spreads a number evenly over 64 bits (the finalizer of `SplitMix64`), so that neighbours have nothing in common.
fn spread(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number below `limit`, fixed by what is drawn (`salt`) and for whom (`n`).
fn draw(salt: u64, n: u64, limit: u64) -> u64 {
    spread(spread(salt) ^ n) % limit
}

fn pick<T: Copy>(list: &[T], salt: u64, n: u64) -> T {
    // The remainder is an index into the list.
    list[usize::try_from(draw(salt, n, list.len() as u64)).unwrap_or(0)]
}

fn person(n: u64) -> Person {
    let english = draw(1, n, 100) < 28;
    let (first_name, last_name) = pick(if english { ENGLISH } else { FRENCH }, 2, n);
    let country =
        if english { pick(&["GB", "IE", "NL"], 3, n) } else { pick(&["FR", "FR", "FR", "BE"], 3, n) };
    Person {
        first_name,
        last_name,
        email: format!("client{n:03}@mail.example"),
        locale: if english { "en" } else { "fr" },
        country,
    }
}

/// The shop's orders up to `today`, in the order they were placed.
pub fn orders(today: DateTime<Tz>) -> Vec<Order> {
    let mut orders: Vec<Order> = (0..N_ORDERS).map(|n| order(n, today)).collect();
    orders.sort_by_key(|order| order.ordered_at);
    for (n, order) in orders.iter_mut().enumerate() {
        order.id = (100_001 + n).to_string();
    }
    orders
}

fn order(n: u64, today: DateTime<Tz>) -> Order {
    let days_ago = 1 + draw(4, n, DAYS - 1);
    let midday = NaiveTime::from_hms_opt(12, 0, 0).unwrap_or_default();
    let day = today
        .checked_sub_days(Days::new(days_ago))
        .and_then(|day| day.with_time(midday).single())
        .unwrap_or(today);
    let minutes = i64::try_from(draw(5, n, 600)).unwrap_or(0) - 240;
    let ordered_at = day + TimeDelta::minutes(minutes);
    let delivery = TimeDelta::hours(i64::try_from(30 + draw(6, n, 110)).unwrap_or(48));
    let status = match draw(7, n, 100) {
        0..=2 => "cancelled",
        3..=4 => "refunded",
        _ if ordered_at + delivery > today => "open",
        _ => "fulfilled",
    };
    let fulfilled_at =
        matches!(status, "fulfilled" | "refunded").then(|| ordered_at + delivery).filter(|at| *at <= today);
    let n_items = 1 + draw(8, n, 3);
    let items: Vec<_> = (0..n_items).map(|i| pick(PRODUCTS, 9 + i, n)).collect();
    // The first orders are one each for the first customers; the rest come from people who have bought before or not, as it falls.
    let customer = if n < N_CUSTOMERS / 2 { n } else { draw(12, n, N_CUSTOMERS) };
    Order {
        id: String::new(),
        customer: person(customer),
        ordered_at,
        fulfilled_at,
        status,
        total_cents: items.iter().map(|(_, cents)| *cents).sum(),
        items: items.into_iter().map(|(id, _)| id).collect(),
        channel: pick(CHANNELS, 13, n),
    }
}

/// What the shop's export holds at a moment: the orders that were placed or delivered since the last one, as they stand then, in the
/// generic format. Returns how many.
///
/// # Errors
/// When it cannot be written.
pub fn write_orders(
    orders: &[Order],
    since: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
    out: impl std::io::Write,
) -> csv::Result<usize> {
    let happened = |at: DateTime<Tz>| since.is_none_or(|since| at > since) && at <= until;
    let mut n = 0;
    let mut file = csv::Writer::from_writer(out);
    file.write_record([
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
        "attributes.channel",
    ])?;
    for order in orders {
        if !happened(order.ordered_at) && !order.fulfilled_at.is_some_and(happened) {
            continue;
        }
        n += 1;
        let fulfilled_at = order.fulfilled_at.filter(|at| *at <= until);
        let is_settled = fulfilled_at.is_some() || order.status == "cancelled";
        let status = if is_settled { order.status } else { "open" };
        let person = &order.customer;
        file.write_record([
            order.id.as_str(),
            &person.email,
            &order.ordered_at.to_rfc3339(),
            &fulfilled_at.map(|at| at.to_rfc3339()).unwrap_or_default(),
            status,
            person.first_name,
            person.last_name,
            person.locale,
            person.country,
            "EUR",
            &format!("{}.{:02}", order.total_cents / 100, order.total_cents % 100),
            &order.items.join("|"),
            order.channel,
        ])?;
    }
    file.flush()?;
    Ok(n)
}

/// What the person behind an order does with the mail.
pub fn reaction(order: &Order) -> Reaction {
    let n = order.id.parse().unwrap_or(0);
    match draw(20, n, 100) {
        0..=54 => Reaction::Ignores,
        55..=57 => Reaction::Unsubscribes,
        roll => Reaction::Answers { answer: answer(order, n), scanner_first: roll % 11 == 0 },
    }
}

fn answer(order: &Order, n: u64) -> Answer {
    let french = order.customer.locale == "fr";
    let happy = draw(21, n, 100) < 86;
    let has_words = draw(22, n, 100) < 65;
    let words = match (happy, french) {
        (true, true) => HAPPY_FR,
        (true, false) => HAPPY_EN,
        (false, true) => UNHAPPY_FR,
        (false, false) => UNHAPPY_EN,
    };
    let name = match draw(23, n, 3) {
        0 => order.customer.first_name.to_owned(),
        1 => format!("{} {}", order.customer.first_name, order.customer.last_name),
        _ => String::new(),
    };
    Answer {
        recommend: if happy { "yes" } else { "no" },
        // Some recommend the shop and still were not delighted.
        overall: match (happy, draw(24, n, 10)) {
            (true, 0..=1) => 3,
            (true, 2..=4) => 4,
            (true, _) => 5,
            (false, 0..=3) => 1,
            (false, 4..=7) => 2,
            (false, _) => 3,
        },
        topic: (!happy).then(|| pick(TOPICS, 25, n)),
        comment: has_words.then(|| pick(words, 26, n)),
        publish_as: (has_words && draw(27, n, 100) < 70).then_some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_is_the_same_every_time_and_nobody_in_it_is_real() {
        let today = "2026-06-30T10:00:00+02:00"
            .parse::<DateTime<chrono::Utc>>()
            .unwrap()
            .with_timezone(&Tz::Europe__Paris);
        let (mut first, mut second) = (Vec::new(), Vec::new());
        let orders = orders(today);
        let until = today.to_utc();
        write_orders(&orders, None, until, &mut first).unwrap();
        let n = write_orders(&super::orders(today), None, until, &mut second).unwrap();
        assert_eq!(n, orders.len());
        assert_eq!(first, second);
        assert_eq!(orders.len(), usize::try_from(N_ORDERS).unwrap());
        assert!(orders.iter().all(|order| order.customer.email.ends_with(".example")));
        assert!(orders.iter().all(|order| order.ordered_at <= today));
        for kind in ["cancelled", "refunded", "open", "fulfilled"] {
            assert!(orders.iter().any(|order| order.status == kind), "{kind}");
        }
    }
}
