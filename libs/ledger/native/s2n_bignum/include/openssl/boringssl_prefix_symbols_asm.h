/* AWS-LC's build puts names before its symbols here; ours does not. */
