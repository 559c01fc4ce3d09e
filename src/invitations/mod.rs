//! (to come)
pub mod compose;
