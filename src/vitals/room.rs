//! How many connections this instance may come to open, and whether its database has them.

use crate::config::Config;
use crate::db;
use crate::responses::collect;

/// How many connections to its database one unattended instance opens at most, when every enabled job runs at the same time and the pages
/// are full: the pools of `[database] max_connections`; those that store answers and note visits, and the one that asks whether an outage
/// is over; each run's pool, and what works beside it. Those to a replica are not counted, and with `pooled_url` the pages' are the pooler's.
pub fn most_connections(config: &Config) -> u32 {
    /// Notes visits; asks whether an outage is over.
    const SINGLE: u32 = 2;
    let (of_jobs, of_pages) = db::shares(config.database.max_connections);
    let runs = config.jobs.iter().filter(|job| job.enabled).map(|job| {
        let connections = job.job.connections();
        connections.pool.min(of_jobs) + connections.beside
    });
    of_jobs + of_pages + collect::WRITERS + SINGLE + runs.sum::<u32>()
}

/// What is to be said when the database has fewer connections (`room`) than this instance may want.
pub fn too_few(config: &Config, room: u32) -> Option<String> {
    let most = most_connections(config);
    (most > room).then(|| {
        format!(
            "this instance may come to open {most} connections to its database, which has {room} for all its users together: raise \
             Postgres's max_connections, or enable fewer jobs, or lower [database] max_connections"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::init::SHIPPED;

    #[test]
    fn every_enabled_job_counts_with_what_it_may_open() {
        let most =
            |jobs_toml: &str| most_connections(&Config::parse(Path::new("jobs.toml"), jobs_toml).unwrap());
        let shipped = most(SHIPPED);
        // Eight for the senders, the recorder's and the one that renews the lease.
        let enabled =
            SHIPPED.replacen("enabled = false\n[jobs.send-nps.params]", "[jobs.send-nps.params]", 1);
        assert_eq!(most(&enabled), shipped + 10);
        // The jobs' share goes from 12 to 3, and no run's pool has more.
        let small = SHIPPED.replacen("max_connections = 16 ", "max_connections = 5 ", 1);
        let config = Config::parse(Path::new("jobs.toml"), SHIPPED).unwrap();
        let n_enabled = config.jobs.iter().filter(|job| job.enabled).count();
        let n_sending =
            config.jobs.iter().filter(|job| job.enabled && job.kind == "send_invitations").count();
        let less = 11 + 5 * n_sending + (n_enabled - n_sending);
        assert_eq!(most(&small), shipped - u32::try_from(less).unwrap());
        let told = format!("at most {shipped} connections");
        for document in [SHIPPED, include_str!("../../README.md")] {
            let words: Vec<&str> = document.split_whitespace().filter(|word| *word != "#").collect();
            assert!(words.join(" ").contains(&told), "{told}");
        }
        // Postgres as it is installed has a hundred, of which three are for its superusers.
        assert_eq!(too_few(&config, 97), None, "{shipped}");
        let told = too_few(&config, shipped - 1).unwrap();
        assert!(told.contains(&format!(" {shipped} connections")), "{told}");
    }
}
