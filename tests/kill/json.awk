# Counts what JSON lines say, without a line of Weir's: one object a line, no objects inside, numbers and texts as the test writes them.
# Prints SERVICE,MINUTE,lines,requests,errors,latencies,sum of latencies; and `skipped,N`.
function text(name) {
    if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
    return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
}
function number(name) {
    if (!match($0, "\"" name "\":-?[0-9.]+")) return ""
    return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
}
FNR == 1 {
    file = FILENAME
    sub(/.*\//, "", file)
    sub(/\.jsonl$/, "", file)
}
/^[ \t]*$/ || !/}$/ { skipped++; next }
{
    service = text("service")
    if (service == "") service = file
    status = number("status")
    latency = number("latency_ms")
    level = text("level")
    key = service "," substr(text("timestamp"), 1, 16) ":00Z"
    lines[key]++
    requests[key] += status != "" || latency != ""
    errors[key] += status != "" ? status >= 500 : level == "ERROR" || level == "FATAL"
    latencies[key] += latency != ""
    sums[key] += latency
}
END {
    for (key in lines) printf "%s,%d,%d,%d,%d,%.17g\n", key, lines[key], requests[key], errors[key], latencies[key], sums[key]
    printf "skipped,%d\n", skipped
}
