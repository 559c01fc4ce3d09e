//! What servers say in their own words, and what it means.
//!
//! A server's wording is added as a line in [`WORDINGS`] and a sample message, with fictional addresses, in
//! `tests/it/data/bounces/<kind>/`: a test reads every file there and expects that kind. Phrases are in lower case with single spaces and
//! straight quotes, because the text is brought into that form first. **The first group with a phrase that occurs decides**, so what is
//! specific stands before what is general; [`DELAYED`], [`GIVEN_UP`], [`OPENINGS`] and [`SUBJECTS`] are lists of their own.

use super::BounceKind;

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    NoAddress,
    NoDomain,
    Closed,
    Full,
    TooMany,
    Sender,
    Policy,
    Content,
    NoRelay,
    Later,
}

impl Meaning {
    /// Only what is about the address is hard.
    pub fn kind(self) -> BounceKind {
        match self {
            Self::NoAddress | Self::NoDomain | Self::Closed => BounceKind::Hard,
            Self::Full
            | Self::TooMany
            | Self::Sender
            | Self::Policy
            | Self::Content
            | Self::NoRelay
            | Self::Later => BounceKind::Soft,
        }
    }

    /// What a person reads where the server's words are not shown.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoAddress => "there is no such address",
            Self::NoDomain => "there is no such domain",
            Self::Closed => "the mailbox is closed",
            Self::Full => "the mailbox is full",
            Self::TooMany => "too many mails in a short time",
            Self::Sender => "the sender was not accepted",
            Self::Policy => "refused by policy or as spam",
            Self::Content => "the message was too large, or its content was not accepted",
            Self::NoRelay => "the server does not take mail for this domain",
            Self::Later => "it could not be delivered in time",
        }
    }
}

/// The meanings with the phrases that say them. The first group that occurs decides.
pub static WORDINGS: &[(Meaning, &[&str])] = &[
    // Phrases that contain words of the groups below.
    (
        Meaning::Later,
        &[
            "not found, try again", // the name server did not answer
            "temporary lookup failure",
            "temporary failure in name resolution",
            "lookup failed temporarily",
        ],
    ),
    (
        Meaning::NoAddress,
        &[
            "recipient address rejected: access denied", // Exchange Online, for addresses that are not in the directory
            "recipient address rejected: user unknown",  // Postfix
            "recipient address rejected: no such",       // Postfix
            "recipient address rejected: unknown user",  // Postfix
            "recipient address rejected: invalid user",
            "undeliverable address: user unknown", // Postfix, address verification
            "mailbox not found or access denied",
            "user unknown in", // Postfix: virtual mailbox table, local recipient table
            "resolver.adr.recipientnotfound", // Exchange
            "resolver.adr.recipnotfound", // Exchange
            "resolver.adr.exrecipnotfound", // Exchange
            "resolver.adr.invalidinternaladdress",
        ],
    ),
    (
        Meaning::Full,
        &[
            "over quota",
            "overquota",
            "over-quota",
            "quota exceeded",
            "exceeded quota",
            "exceeds quota",
            "exceeded the quota",
            "exceeded its quota",
            "exceeded their quota",
            "exceeding their quota",
            "exceeded storage",
            "exceeded his quota",
            "exceeding receive quota",
            "quota exceed",
            "quota violation",
            "exceed mailbox quota",
            "quota limit",
            "quota full",
            "quota is full",
            "mailbox full",
            "mailbox is full",
            "mail box full",
            "mail box is full",
            "mailbox too full",
            "mailbox size limit exceeded",
            "mailbox has exceeded",
            "mailbox exceeds",
            "maildir over",
            "inbox is full",
            "inbox full",
            "mail quota",
            "disk quota",
            "disk space",
            "out of storage space", // Gmail
            "not enough storage",
            "insufficient storage",
            "insufficient system storage",
            "insufficient disk",
            "no space left",
            "storage allocation",
            "exceeded allocated",
            "too much mail data",
            "account is full",
            "user is over",
            "is over the storage",
            "mailfolder is full",
            "mail folder is full",
            "resolver.rst.recipsizelimit.mailboxfull",
            "quotaexceededexception", // Exchange
            "storedrv.deliver; mailbox full",
            "mailbox is over", // various
            "ist voll",        // German
            "postfach voll",
            "mailbox voll",
            "überfüllt",
            "speicherplatz",
            "kontingent",
            "boîte aux lettres est pleine", // French
            "boite aux lettres est pleine",
            "boîte pleine",
            "boite pleine",
            "boîte de réception est pleine",
            "boîte aux lettres pleine",
            "quota dépassé",
            "buzón lleno", // Spanish
            "buzón está lleno",
            "buzon lleno",
            "cuota excedida",
            "caixa de correio cheia", // Portuguese
            "caixa postal cheia",
            "caixa de correio está cheia",
            "quota excedida",
            "casella piena", // Italian
            "casella di posta piena",
            "casella è piena",
            "postvak is vol", // Dutch
            "postvak vol",
            "mailbox is vol",
            "skrzynka jest pełna", // Polish
            "przepełniona",
            "почтовый ящик переполнен", // Russian
            "ящик переполнен",
            "メールボックスがいっぱい", // Japanese
            "容量",
            "邮箱已满", // Chinese
            "空间不足",
        ],
    ),
    (
        Meaning::TooMany,
        &[
            "at a rate that prevents", // Gmail
            "too many messages",
            "too many recipients",
            "too many connections",
            "too many mails",
            "too many emails",
            "too many errors",
            "too many concurrent",
            "too many sessions",
            "rate limit",
            "ratelimit",
            "rate-limit",
            "throttl",
            "sending too fast",
            "exceeded the maximum number of messages",
            "mail rate",
            "daily limit",
            "message limit exceeded",
            "sending quota",
        ],
    ),
    (
        Meaning::Sender,
        &[
            "sender address rejected",
            "sender rejected",
            "sender denied",
            "sender verify failed", // Exim
            "sender verify fail",
            "sender is unauthenticated",
            "sender not allowed",
            "sender not authorized",
            "sender not accepted",
            "sender domain",
            "domain of sender",
            "invalid sender",
            "unknown sender",
            "bad sender",
            "sender address",
            "senders address",
            "from address",
            "mail from denied",
            "envelope sender",
            "return path",
            "could not verify sender",
            "cannot verify sender",
            "spf ",
            "spf:",
            "spf-",
            "(spf)",
            "sender policy framework",
            "dmarc",
            "dkim",
            "reverse dns",
            "reverse lookup",
            "reverse hostname",
            "rdns",
            "ptr record",
            "helo",
            "your domain",
            "authentication required",
            "resolver.rst.authrequired", // Exchange: only people inside may write
            "resolver.rst.notauthorized",
            "not authorized to send",
            "not permitted to send",
            "only accepts", // groups and lists
        ],
    ),
    (
        Meaning::Closed,
        &[
            "mailbox disabled",
            "mailbox is disabled",
            "mailbox currently disabled",
            "mailbox was disabled",
            "mailbox has been disabled",
            "account disabled",
            "account is disabled",
            "account that you tried to reach is disabled", // Gmail
            "account has been disabled",
            "has been disabled or discontinued", // Yahoo
            "account was disabled",
            "account expired",
            "account has expired",
            "account inactive",
            "account is inactive",
            "account is not active",
            "account not active",
            "account that you tried to reach is inactive", // Gmail
            "inactive user",
            "inactive account",
            "inactive mailbox",
            "user inactive",
            "is inactive",
            "mailbox inactive",
            "mailbox is inactive",
            "recipient is inactive",
            "user is not active",
            "not an active user",
            "no longer active",
            "not an active address",
            "is not an active",
            "account suspended",
            "account has been suspended",
            "mailbox has been suspended",
            "mailbox currently suspended",
            "user has been suspended",
            "account is suspended",
            "user suspended",
            "mailbox suspended",
            "account closed",
            "account is closed",
            "account has been closed",
            "mailbox closed",
            "mailbox is closed",
            "account deactivated",
            "deactivated",
            "account blocked",
            "account is blocked",
            "mailbox is blocked",
            "mailbox blocked",
            "account locked",
            "account is locked",
            "mailbox locked",
            "mailbox is locked",
            "mailbox frozen",
            "user disabled",
            "user is disabled",
            "user account is disabled",
            "recipient disabled",
            "address is disabled",
            "address disabled",
            "user terminated",
            "account terminated",
            "account has been deleted",
            "account deleted",
            "mailbox deleted",
            "address no longer",
            "no longer valid",
            "no longer in use",
            "no longer used",
            "no longer available",
            "no longer accepts mail",
            "no longer accepting mail",
            "no longer on server",
            "no longer works for",
            "has been discontinued",
            "ce compte est désactivé", // French
            "compte désactivé",
            "compte bloqué",
            "cuenta desactivada", // Spanish
            "cuenta ha sido desactivada",
            "conta desativada",     // Portuguese
            "casella disabilitata", // Italian
            "deaktiviert",          // German
            "wurde gelöscht",
            "konto gesperrt",
            "konto ist gesperrt",
            "postfach gesperrt",
            "postfach ist gesperrt",
        ],
    ),
    (
        Meaning::NoDomain,
        &[
            "domain does not exist",
            "domain doesn't exist",
            "domain not exist",
            "domain name not found",
            "domain not found",
            "no such domain",
            "unknown domain",
            "bad destination host",
            "unknown host",
            "host unknown", // Sendmail
            "host not found",
            "name or service not known", // Postfix
            "no such host",              // qmail: couldn't find any host named
            "couldn't find any host",
            "couldn't find a mail exchanger",
            "can't find any host",
            "hostname could not be found",
            "unrouteable mail domain", // Exim
            "unrouteable address",     // Exim, of the sending side: the domain has no mail exchanger
            "unroutable address",
            "unrouteable domain",
            "unroutable domain",
            "all relevant mx records point to non-existent hosts", // Exim
            "an mx or srv record indicated no smtp service",       // Exim
            "nullmx",
            "null mx",
            "domain has no mail exchangers",
            "does not accept mail (nullmx)",
            "domain service notfound",
            "no mx record",
            "could not find a gateway",
            "no mx or a records",
            "no valid hosts",
            "dns error: domain",
            "dns type 'mx' lookup of", // Gmail
            "recipient domain",
            "domain is not valid",
            "invalid domain",
            "nom de domaine introuvable", // French
            "domaine introuvable",
            "dominio no existe",      // Spanish
            "domínio não existe",     // Portuguese
            "dominio inesistente",    // Italian
            "domain existiert nicht", // German
            "domäne existiert nicht",
        ],
    ),
    (
        Meaning::NoAddress,
        &[
            "user unknown",
            "unknown user",
            "user-unknown",
            "unknown-user",
            "usernotfound",
            "recipient unknown",
            "unknown recipient",
            "unknown address",
            "address unknown",
            "unknown local",
            "unknown account",
            "unknown or illegal",
            "unknown email",
            "unknown mailbox",
            "mailbox unknown",
            "no such user",
            "no user by that name",
            "no user here",
            "no user with",
            "no mailbox here",
            "no mailbox found",
            "no mailbox by that name",
            "no mailbox available",
            "no such mailbox",
            "no such address",
            "no such recipient",
            "no such person",
            "no such account",
            "no such local user",
            "no such local recipient",
            "no such email",
            "no such name",
            "no such id",
            "nosuchuser",
            "no mail box",
            "mail-box not found",
            "no account by that name",
            "no valid recipients",
            "not a valid recipient",
            "not a valid mailbox",
            "not a valid user",
            "not a valid address",
            "not a valid email",
            "not valid recipient",
            "not a known user",
            "not a local user",
            "not a user",
            "not known here",
            "not known at this",
            "not our customer",
            "not listed in", // Domino: … not listed in Domino Directory
            "not found in directory",
            "not found in the directory",
            "not found at ",
            "not found on",
            "not found by smtp address lookup", // Exchange
            "not in the directory",
            "not unique in", // Domino
            "user not found",
            "user_not_found",
            "user not known",
            "user does not exist",
            "user doesn't exist",
            "user doesnt exist",
            "user not exist",
            "user name not found",
            "user is unknown",
            "user invalid",
            "invalid user",
            "username not found",
            "recipient not found",
            "recipient was not found",
            "recipient does not exist",
            "recipient doesn't exist",
            "recipient not exist",
            "recipient no found",
            "recipient name is not recognized", // Exchange
            "recipient not recognized",
            "recipient is not recognized",
            "recipient is unknown",
            "recipient invalid",
            "invalid recipient",
            "recipient's email address was not found", // Exchange
            "couldn't be found",                       // Exchange Online: wasn't found at
            "wasn't found at",
            "could not be found",
            "was not found",
            "could not find user",
            "could not resolve recipient",
            "cannot find recipient",
            "can't find recipient",
            "address not found", // Gmail
            "address does not exist",
            "address doesn't exist",
            "address you entered couldn't be found",
            "address unavailable",
            "address couldn't be found",
            "addressee unknown",
            "account that you tried to reach does not exist", // Gmail
            "account does not exist",
            "account doesn't exist",
            "account not found",
            "this user doesn't have a",      // Yahoo
            "invalid final delivery userid", // IMail
            "does not have a final email delivery point",
            "does not have an account",
            "mailbox does not exist",
            "mailbox doesn't exist",
            "mailbox not exist",
            "mailbox not found",
            "mailbox name not found",
            "mailbox name is invalid",
            "mailbox is invalid",
            "invalid mailbox", // mail.ru
            "mailbox invalid",
            "bad destination mailbox",
            "bad destination email",
            "bad mailbox",
            "bad address",
            "bad recipient",
            "bad_recipient",
            "bad user",
            "illegal user",
            "illegal recipient",
            "malformed address",
            "invalid address",
            "invalid mail address",
            "invalid email",
            "invalid e-mail",
            "e-mail address is invalid",
            "email address is invalid",
            "address is invalid",
            "address invalid",
            "destination mailbox address ambiguous",
            "does not like recipient",
            "does not exist",
            "doesn't exist",
            "dont exist",
            "is not a member",
            "delivery to this address is not possible",
            "has no mailbox",
            "unrouteable",
            "there is no such",
            "that user is not",
            "this address no",
            "permanent fatal errors: no",
            "unbekannt", // German: Empfänger unbekannt, Benutzer unbekannt
            "nicht gefunden",
            "konnte nicht gefunden",
            "existiert nicht",
            "kein solcher benutzer",
            "kein postfach",
            "ungültige adresse",
            "ungültige empfänger",
            "nicht vergeben",
            "utilisateur inconnu", // French
            "destinataire inconnu",
            "adresse inconnue",
            "adresse introuvable",
            "introuvable",
            "n'existe pas",
            "adresse d au moins un destinataire invalide", // Orange, which writes no apostrophe
            "destinataire invalide",
            "adresse invalide",
            "adresse email du destinataire n'a pas été trouvée",
            "n'a pas été trouvée",
            "boîte aux lettres inconnue",
            "usuario desconocido", // Spanish
            "destinatario desconocido",
            "no existe",
            "no se encontró",
            "no se ha encontrado",
            "no encontrado",
            "buzón inexistente",
            "usuário desconhecido", // Portuguese
            "usuario inexistente",
            "usuário inexistente",
            "usuário não encontrado",
            "destinatário desconhecido",
            "endereço não encontrado",
            "não foi encontrado",
            "não existe",
            "caixa postal inexistente",
            "utente sconosciuto", // Italian
            "destinatario sconosciuto",
            "indirizzo inesistente",
            "indirizzo non trovato",
            "utente non trovato",
            "non esiste",
            "onbekende gebruiker", // Dutch
            "gebruiker onbekend",
            "adres niet gevonden",
            "bestaat niet",
            "nieznany użytkownik", // Polish
            "nie istnieje",
            "nie znaleziono",
            "niet gevonden",
            "okänd användare", // Swedish
            "finns inte",
            "ukendt bruger",          // Danish
            "ukjent bruker",          // Norwegian
            "uživatel neexistuje",    // Czech
            "пользователь не найден", // Russian
            "не существует",
            "не найден",
            "宛先不明", // Japanese
            "存在しません",
            "見つかりません",
            "不存在", // Chinese
            "找不到",
            "사용자를 찾을 수", // Korean
        ],
    ),
    (
        Meaning::NoRelay,
        &[
            "relay access denied", // Postfix
            "relay denied",
            "relaying denied", // Sendmail
            "relaying not allowed",
            "relaying is not allowed",
            "relaying prohibited",
            "relay not permitted", // Exim
            "relay not allowed",
            "relaying disallowed",
            "unable to relay", // Exchange
            "cannot relay",
            "can't relay",
            "not a relay",
            "no relaying",
            "do not relay",
            "don't relay",
            "does not relay",
            "rcpthosts", // qmail
            "must be authenticated",
            "not an open relay",
            "not hosted here",
            "not handled here",
            "we do not accept mail for",
            "mail loop",
            "loops back to myself", // Postfix
            "too many hops",
            "hop count exceeded",
            "routing loop",
            "message looping",
        ],
    ),
    (
        Meaning::Content,
        &[
            "message too large",
            "message too big",
            "message is too large",
            "message is too big",
            "message size exceeds",
            "message size limit",
            "message exceeds",
            "message file too big",
            "message length exceeds",
            "size exceeds",
            "maximum message size",
            "maximum size",
            "max message size",
            "exceeds the maximum",
            "exceeds size",
            "exceeds maximum",
            "exceeded maximum",
            "too large",
            "too big",
            "too long",
            "virus",
            "malware",
            "infected",
            "attachment",
            "content rejected",
            "content not accepted",
            "message content",
            "message contains",
            "mime error",
            "header error",
            "bare lf",
            "line too long",
            "smtputf8",
            "non-ascii",
            "nachricht ist zu groß",
            "zu gross",
            "message trop volumineux",
            "trop volumineux",
            "demasiado grande",
            "muito grande",
            "troppo grande",
        ],
    ),
    (
        Meaning::Policy,
        &[
            "spam",
            "junk",
            "unsolicited",
            "bulk mail",
            "blacklist",
            "black list",
            "blocklist",
            "block list",
            "blocked",
            "blocking",
            "blockliste",
            "spamhaus",
            "spamcop",
            "barracuda",
            "proofpoint",
            "dnsbl",
            " rbl",
            "surbl",
            "uribl",
            "reputation",
            "not accepted for policy",
            "policy",
            "prohibited",
            "administrative",
            "recipient preferences",
            "domain filter",
            "denied by",
            "access denied",
            "access restricted",
            "permission denied",
            "not authorized",
            "not authorised",
            "not permitted",
            "not allowed",
            "unauthorized",
            "banned",
            "rejected due to",
            "message rejected",
            "message was rejected",
            "message refused",
            "mail refused",
            "mail refuse",
            "mail rejected",
            "mail content denied",
            "message denied",
            "transaction failed",
            "suspicious",
            "phish",
            "greylist",
            "graylist",
            "grey list",
            "gray list",
            "security",
            "filtered",
            "challenge",
            "whitelist",
            "unverified",
            "abgelehnt",
            "verdächtig",
            "indésirable",
            "no deseado",
            "ofr_", // Orange
            "lpn",  // La Poste
        ],
    ),
    // What some say only of addresses that do not exist, and others of much else.
    (
        Meaning::NoAddress,
        &[
            "mailbox unavailable", // the words of RFC 5321 for 550
            "mailbox not available",
            "mailbox is unavailable",
            "recipient rejected",
            "recipient address rejected",
            "recipient denied",
            "recipient refused",
            "recipient not accepted",
            "recipient not ok",
            "recipient unavailable",
            "address rejected",
            "rejected recipient",
            "rcpt rejected",
            "undeliverable address",
            "user unavailable",
            "check for spelling",
            "misspelled",
        ],
    ),
    (
        Meaning::Later,
        &[
            "timed out",
            "timeout",
            "time out",
            "time-out",
            "connection refused",
            "connection reset",
            "connection died",
            "connection closed",
            "connection lost",
            "lost connection",
            "connection dropped",
            "connection was dropped",
            "connection failed",
            "could not connect",
            "couldn't connect",
            "cannot connect",
            "unable to connect",
            "can't connect",
            "unable to contact",
            "network is unreachable",
            "network unreachable",
            "no route to host",
            "host is unreachable",
            "server busy",
            "try again",
            "try later",
            "temporar",
            "tls",
            "certificate",
            "did not respond",
            "not responding",
            "local error",
            "internal error",
            "system error",
            "service unavailable",
            "service not available",
            "retry",
        ],
    ),
];

/// A mail that is still being tried: without an `Action`, or in a message without fields.
pub static DELAYED: &[&str] = &[
    "this is a warning message only",
    "this is only a warning",
    "is a warning message only",
    "you do not need to resend",
    "you don't need to resend",
    "do not need to resend your message",
    "no action is required on your part",
    "delivery attempts will continue",
    "will continue to try",
    "will continue trying",
    "will keep trying",
    "will retry for",
    "will be retried",
    "will try again",
    "will try to deliver",
    "still trying",
    "has not yet been delivered",
    "not yet been delivered",
    "has not been delivered yet",
    "delivery is delayed",
    "has been delayed",
    "delivery to the following recipients has been delayed",
    "message delivery delayed",
    "will be reattempted",
    "continue to attempt",
    "attempts to deliver the message will continue",
    "delivery will continue to be attempted",
    "wird weiterhin versucht",
    "weitere zustellversuche",
    "verzögert",
    "retardé",
    "a été retardée",
    "nouvelles tentatives",
    "se ha retrasado",
    "foi atrasada",
    "in ritardo",
    "vertraagd",
];

/// A mail that was given up after some time: whatever the reason was, it was not a plain no.
pub static GIVEN_UP: &[&str] = &[
    "retry timeout exceeded", // Exim
    "retry time not reached", // Exim
    "message expired",
    "delivery expired",
    "delivery time expired",
    "message has expired",
    "queue too long",
    "been in the queue too long", // qmail
    "queued too long",
    "queue lifetime",
    "too long in queue",
    "could not be delivered for", // Sendmail: for the last 5 days
    "could not send message for past",
    "cannot send message within",
    "cannot send message for",
    "unable to deliver this message after",
    "unable to deliver message after",
    "not been able to deliver",
    "failed after i sent the message", // qmail; the connection died
    "delivery failed after",
    "maximum retries exceeded",
    "attempts: ",
    "giving up after",
    "retry limit",
    "retry count exceeded",
    "too many retries",
    "delivery attempts expired",
    "queue.expired",
    "delivery timed out",
];

/// How the text of a bounce begins, or what stands in it wherever it comes from.
pub static OPENINGS: &[&str] = &[
    "wasn't able to deliver", // qmail
    "was not able to deliver",
    "not able to deliver",
    "unable to deliver",
    "could not be delivered",
    "couldn't be delivered",
    "couldn't deliver",
    "could not deliver",
    "cannot be delivered",
    "can't be delivered",
    "cannot deliver",
    "can not deliver",
    "failed to deliver",
    "was not delivered",
    "wasn't delivered",
    "not be delivered",
    "not delivered to",
    "did not receive",
    "automatically rejected", // Dovecot
    "has not been delivered",
    "not yet been delivered",
    "undeliverable",
    "undelivered",
    "delivery failed",
    "delivery failure",
    "delivery to the following",
    "delivery has failed",
    "delivery error",
    "did not reach the following",
    "couldn't reach",
    "could not be sent",
    "returned mail",
    "returned message",
    "message returned",
    "your message was rejected",
    "your mail to the following recipients",
    "permanent fatal errors",
    "returning message to sender",
    "this is a permanent error",
    "have been unable",
    "following recipient",
    "following address",
    "the following addresses had",
    "this user doesn't have",
    "mail delivery",
    "error sending",
    "transcript of session",
    "delivery is delayed",
    "has been delayed",
    "bounced",
    "konnte nicht zugestellt", // German
    "nicht zugestellt",
    "zustellung fehlgeschlagen",
    "unzustellbar",
    "fehler bei der zustellung",
    "n'a pas pu être remis", // French
    "n'a pas pu etre remis",
    "n'a pu être remis",
    "non remis",
    "impossible de remettre",
    "n'a pas pu être délivré",
    "n'a pas été remis",
    "n'a pas pu être distribué",
    "échec de la remise",
    "no se pudo entregar", // Spanish
    "no se puede entregar",
    "no se ha podido entregar",
    "no ha podido ser entregado",
    "no entregado",
    "não pôde ser entregue", // Portuguese
    "não foi entregue",
    "não foi possível entregar",
    "falha na entrega",
    "impossibile recapitare", // Italian
    "non è stato recapitato",
    "non è stato possibile recapitare",
    "non è stato possibile consegnare",
    "mancato recapito",
    "kan niet worden bezorgd", // Dutch
    "kon niet worden bezorgd",
    "kon niet worden afgeleverd",
    "onbestelbaar",
    "nie może być dostarczona", // Polish
    "nie została dostarczona",
    "niedostarczon",
    "nie mogła zostać dostarczona",
    "kunde inte levereras",    // Swedish
    "kunne ikke leveres",      // Danish, Norwegian
    "nelze doručit",           // Czech
    "не может быть доставлен", // Russian
    "не доставлено",
    "не было доставлено",
    "配信できません", // Japanese
    "配信不能",
    "届けることができません",
    "退信", // Chinese
    "无法送达",
    "无法投递",
    "投递失败",
    "반송", // Korean
];

/// Subjects of bounces, wherever in the subject.
pub static SUBJECTS: &[&str] = &[
    "undeliverable",
    "undelivered",
    "undelivered mail",
    "delivery status notification",
    "delivery failure",
    "delivery failed",
    "delivery notification",
    "delivery problem",
    "delivery has failed",
    "delivery error",
    "delivery report",
    "delivery delayed",
    "delivery incomplete",
    "delayed mail",
    "mail delivery",
    "message delivery",
    "failed mail",
    "mail failed",
    "returning to sender",
    "non-delivery",
    "nondelivery",
    "rejected mail",
    "failure notice",
    "failure delivery",
    "returned mail",
    "returned email",
    "returned message",
    "returned to sender",
    "mail returned",
    "mail error",
    "mail system error",
    "message status",
    "message you sent",
    "could not send message",
    "warning: message",
    "warning: could not",
    "non remis", // French
    "non delivrable",
    "échec de la remise",
    "non délivré",
    "non distribué",
    "message non",
    "unzustellbar", // German
    "nicht zugestellt",
    "zustellung",
    "no se puede entregar", // Spanish
    "no entregado",
    "não entregue", // Portuguese
    "falha na entrega",
    "não é possível entregar",
    "recapito", // Italian
    "onbestelbaar",
    "niet afgeleverd",
    "niedostarczon", // Polish
    "niemożliwe do dostarczenia",
    "olevererbart",
    "kan ikke leveres",
    "не удается доставить",
    "недоставлен",
    "配信不能", // Japanese
    "退信",     // Chinese
    "系统退信",
    "无法送达",
    "undeliver",
    "bounce",
    "domino directory",
];

/// Subjects of vacation notes, at the beginning of the subject.
pub static AUTOMATIC_SUBJECTS: &[&str] = &[
    "auto:",
    "auto reply",
    "auto-reply",
    "autoreply",
    "auto response",
    "auto-response",
    "autoresponse",
    "automatic reply",
    "automatic response",
    "automated reply",
    "automated response",
    "out of office",
    "out of the office",
    "away from the office",
    "away from my mail",
    "on vacation",
    "vacation",
    "on holiday",
    "absence",
    "absent",
    "réponse automatique",
    "réponse d'absence",
    "message d'absence",
    "en congé",
    "automatische antwort",
    "automatische rückantwort",
    "abwesenheit",
    "abwesend",
    "out-of-office",
    "respuesta automática",
    "fuera de la oficina",
    "resposta automática",
    "fora do escritório",
    "risposta automatica",
    "fuori sede",
    "fuori ufficio",
    "automatisch antwoord",
    "afwezig",
    "autosvar",
    "frånvaro",
    "fravær",
    "automaattinen vastaus",
    "poissa",
    "autoodpowiedź",
    "automatyczna odpowiedź",
    "odpowiedź automatyczna",
    "automatická odpověď",
    "автоответ",
    "автоматический ответ",
    "自動返信",
    "自動応答",
    "不在",
    "自动回复",
    "자동 회신",
];

/// The form in which texts are compared: lower case, single spaces, straight quotes. Addresses, links and the names of hosts become a
/// dot in the middle of the line, because they can be called anything, `spam.customer.example` for one.
pub fn comparable(text: &str) -> String {
    let mut comparable = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !comparable.is_empty() {
            comparable.push(' ');
        }
        // Each line of a reply begins with its code, which would stand in the middle of a phrase.
        if is_continuation(word) {
            comparable.pop();
            continue;
        }
        if is_a_name(word) {
            comparable.push('·');
            continue;
        }
        for c in word.chars() {
            match c {
                '\u{2018}' | '\u{2019}' | '`' | '\u{b4}' => comparable.push('\''),
                '\u{201c}' | '\u{201d}' => comparable.push('"'),
                c => comparable.extend(c.to_lowercase()),
            }
        }
    }
    comparable
}

/// `550-5.1.1`
fn is_continuation(word: &str) -> bool {
    word.split_once('-').is_some_and(|(code, status)| {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        code.len() == 3
            && is_digits(code)
            && status.split('.').count() == 3
            && status.split('.').all(is_digits)
    })
}

/// Whether a word is an address, a link or the name of a host, and no word of Exchange's, which have dots too.
fn is_a_name(word: &str) -> bool {
    if word.contains('@') || word.contains("://") {
        return true;
    }
    let word = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    if ["RESOLVER.", "QUEUE.", "STOREDRV."].iter().any(|start| word.starts_with(start)) {
        return false;
    }
    // `mx.customer.example[192.0.2.1]:25`
    let word =
        word.split(['[', '(', ':', ',', ';', '<', '>']).next().unwrap_or_default().trim_end_matches('.');
    // Where a sentence begins right behind the end of another, it begins with a capital.
    word.rsplit_once('.').is_some_and(|(before, last)| {
        !before.is_empty() && last.len() >= 2 && last.chars().all(char::is_lowercase)
    })
}

/// What a text means, and the phrase that says it. The text has to be [`comparable`].
pub fn meaning(comparable: &str) -> Option<(Meaning, &'static str)> {
    WORDINGS.iter().find_map(|(meaning, phrases)| {
        phrases.iter().find(|phrase| comparable.contains(*phrase)).map(|phrase| (*meaning, *phrase))
    })
}

/// Whether one of the phrases occurs. The text has to be [`comparable`].
pub fn has_any(comparable: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| comparable.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_can_be_found_and_stands_in_one_place() {
        let lists = WORDINGS.iter().map(|(_, phrases)| *phrases);
        for phrases in lists.chain([DELAYED, GIVEN_UP, OPENINGS, SUBJECTS, AUTOMATIC_SUBJECTS]) {
            for phrase in phrases {
                let form = if phrase.contains('.') { phrase.to_lowercase() } else { comparable(phrase) };
                assert_eq!(form, phrase.trim(), "{phrase:?} is not in the form that texts are brought into");
            }
        }
        let mut all: Vec<&str> = WORDINGS.iter().flat_map(|(_, phrases)| phrases.iter().copied()).collect();
        all.sort_unstable();
        let n = all.len();
        all.dedup();
        assert_eq!(all.len(), n, "a phrase stands in two groups, or twice in one");
    }
}
