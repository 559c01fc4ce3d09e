//! (to come)
/// (to come)
#[derive(Debug, Clone)]
pub struct AnyJob;
