//! The replicated, hash-chained log. It knows nothing of clusters.
