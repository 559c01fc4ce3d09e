//! (to come)
/// (to come)
#[derive(Debug, Clone)]
pub struct AnyJob;
impl AnyJob {
    pub fn check(&self, _config: &crate::config::Config) -> Vec<String> {
        Vec::new()
    }
}
pub struct JobKind {
    pub name: &'static str,
    pub parse: fn(toml::Value) -> Result<AnyJob, toml::de::Error>,
}
pub static JOB_KINDS: &[JobKind] = &[];
pub fn kind(name: &str) -> Option<&'static JobKind> {
    JOB_KINDS.iter().find(|kind| kind.name == name)
}
