#!/bin/sh
# Runs the simulator with each planted bug and writes how many seeds it took to runtime/tests/planted.tsv.
set -eu
cd "$(dirname "$0")/../.."
table=runtime/tests/planted.tsv
printf 'bug\tfound by\tseeds\twhat it said\n' > "$table.new"
while read -r bug rig; do
  said=$(${CARGO:-cargo} test --quiet -p corelane --features "$bug" --test "$rig" -- --ignored --nocapture the_planted_bug_is_found)
  seeds=$(printf '%s\n' "$said" | sed -n 's/.*seeds: //p')
  what=$(printf '%s\n' "$said" | sed -n '/seeds: /{n;p;}' | cut -c1-100)
  printf '%s\t%s\t%s\t%s\n' "$bug" "$rig" "$seeds" "$what" | tee -a "$table.new"
done <<BUGS
bug_lost_credit strategies
bug_capacity_off_by_one strategies
bug_double_drop_count strategies
bug_retry_overtakes simulation
bug_breaker_never_half_opens simulation
bug_barrier_not_awaited rebalancing
BUGS
mv "$table.new" "$table"
