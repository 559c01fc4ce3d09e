//! (to come)
/// (to come)
#[derive(Debug, Clone)]
pub struct Schedule;
impl Schedule {
    pub fn parse(_: &str, _: chrono_tz::Tz) -> Result<Self, String> {
        Ok(Self)
    }
}
