# Counts what an access log in combined format says, all of it in UTC, without a line of Weir's. Prints what json.awk prints.
BEGIN { months = "JanFebMarAprMayJunJulAugSepOctNovDec" }
!match($0, /\[[0-9][0-9]\/[A-Z][a-z][a-z]\/[0-9:]+ \+0000\]/) { print "no time: " $0 > "/dev/stderr"; exit 1 }
{
    time = substr($0, RSTART + 1, 17)
    month = (index(months, substr(time, 4, 3)) + 2) / 3
    key = sprintf("%s,%s-%02d-%sT%s:00Z", service, substr(time, 8, 4), month, substr(time, 1, 2), substr(time, 13, 5))
    # The request may hold quotes with a backslash before them, and the status stands behind the first quote that a status follows.
    if (!match($0, /" [0-9][0-9][0-9] ([0-9]+|-)/)) { print "no status: " $0 > "/dev/stderr"; exit 1 }
    lines[key]++
    errors[key] += substr($0, RSTART + 2, 3) >= 500
}
END {
    for (key in lines) printf "%s,%d,%d,%d,0,0\n", key, lines[key], lines[key], errors[key]
    print "skipped,0"
}
