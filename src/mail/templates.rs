//! (to come)
/// (to come)
pub struct Templates;
