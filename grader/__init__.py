"""Grade box-office submissions: drive them, judge the record, score, report."""
