//! The parts of GCM (SP 800-38D) that the pool needs apart: counter blocks, masks, GHASH over additional data and text.
