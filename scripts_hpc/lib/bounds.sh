# shellcheck shell=bash
# bounds.sh: what bounds a round of a benchmark, seen by each of its jobs when it begins, as nobody else may be there to look. Sourced by
# the agents' scripts of workflows; needs common.sh, scheduler.sh, service.sh, run.sh and agent.sh.
#
# RUN_GROUP/bounds          what the round may use (helpers/benchmarks/bounds.py writes it), a line each:
#                             tokens N | usd X | gpu_hours X | price AGENT MODEL USD_PER_MILLION_PROMPT_TOKENS USD_PER_MILLION_COMPLETION_TOKENS
# RUN_GROUP/ends            a file for each run that has ended, PARTS.JOB.STATE.TOKENS.MICROUSD: so one listing tells of all. It holds the reason
# RUN_GROUP/stopped.PARTS.json
#                           why no more of the jobs begins that were submitted together, with PARTS
# Other workflows have no such folder, and no bounds.

LOST_IN_A_ROW=5 # runs of a round that were lost, where none ended otherwise: no more begins

bounds::look() { # bounds::look PARTS: ends the job where nothing more is to begin; else has its end noted
  local file=$RUN_GROUP/stopped.$1.json said='' claim=$RUN_GROUP/claims/$ROLLOUT
  [[ -d $RUN_GROUP/ends ]] || return 0
  BOUNDS_PARTS=$1
  ((ATTEMPT == 0)) || claim+=.$ATTEMPT
  # that one is at work already, whoever does it: part::claim tells
  [[ ! -L $claim ]] || { on_exit bounds::_note && return 0; }
  if [[ -f $file ]]; then
    said=$(json::text sentence <"$file")
  else
    said=$(bounds::_reached)
    [[ -z $said ]] || bounds::_stop "$said" || log "can't write $file: $(common::lacking "$RUN_GROUP")"
  fi
  [[ -n $said ]] || { on_exit bounds::_note && return 0; }
  log "rollout $ROLLOUT isn't begun: $said"
  bounds::_not_begun "$said" || log "can't write $RUN/run_metadata.json: $(common::lacking "$RUN_GROUP")"
  run::find_servers
  run::leave
  exit 0
}

bounds::_stop() { # bounds::_stop SENTENCE: once for all that were submitted together
  json::object sentence "$1" at "$(common::now)" job_id "$JOB_ID" | common::write_atomic "$RUN_GROUP/stopped.$BOUNDS_PARTS.json"
}

bounds::_not_begun() { # bounds::_not_begun SENTENCE: the run that waited ends, and nothing was done for it
  # shellcheck disable=SC2034 # run::record writes it
  RUN_CREATED=$(common::now)
  RUN_NAME=${COMPETITION//\//-}_$JOB_ID
  RUN=$RUN_GROUP/$RUN_NAME
  mkdir -p "$RUN" && run::record cancelled "not begun: $1"
}

# The bound that is reached, as a sentence; nothing where there is none.
bounds::_reached() {
  local what most used
  while read -r what most used; do
    case $what in
      lost) printf 'all %d runs that have ended were lost, the last one because: %s' "$used" "$(bounds::_last_reason)" ;;
      tokens) printf 'the budget of %s tokens is used up (%s)' "$most" "$used" ;;
      usd) printf 'the budget of %s USD is used up (%s)' "$most" "$used" ;;
      gpu_hours) printf 'the budget of %s GPU-hours is used up (%s)' "$most" "$used" ;;
    esac
    return 0
  done < <(bounds::_sums)
}

# A line WHAT MOST USED for each bound that is reached.
bounds::_sums() {
  local bounds=$RUN_GROUP/bounds gpu_seconds=0
  [[ -f $bounds ]] || bounds=/dev/null
  if grep -q '^gpu_hours ' "$bounds"; then gpu_seconds=$(bounds::_gpu_seconds); fi
  { ls -U "$RUN_GROUP/ends" || true; } | LC_ALL=C awk -v parts="$BOUNDS_PARTS" -v few="$LOST_IN_A_ROW" -v bounds="$bounds" -v seconds="$gpu_seconds" '
    {
      split($0, part, ".")
      tokens += part[4]; micro += part[5]
      if (part[1] == parts && part[3] != "cancelled") { if (part[3] == "lost") lost++; else other++ }
    }
    END {
      while ((getline line <bounds) > 0) {
        split(line, word, " ")
        if (word[1] == "tokens" && tokens >= word[2]) printf "tokens %s %.0f\n", word[2], tokens
        if (word[1] == "usd" && micro / 1e6 >= word[2]) printf "usd %s %.4f\n", word[2], micro / 1e6
        if (word[1] == "gpu_hours" && seconds / 3600 >= word[2]) printf "gpu_hours %s %.3f\n", word[2], seconds / 3600
      }
      if (lost >= few && !other) printf "lost %d %d\n", few, lost
    }'
}

# GPU-seconds of the servers of the round by their own notes, GPUs times the life of their jobs; of one that died without a word, until
# its last sign of life.
bounds::_gpu_seconds() {
  local file text gpus job from to last sum=0 gone='' silent=() servers=()
  for file in "$RUN_GROUP"/services/*.json; do
    text=$(cat "$file" 2>/dev/null) || continue
    gpus=$(bounds::_count gpus <<<"$text") from=$(bounds::_time started_at <<<"$text") to=$(bounds::_time ended_at <<<"$text")
    [[ $gpus != 0 && -n $from ]] || continue
    job=${file%.json} job=${job##*_}
    [[ -n $to ]] || silent+=("$job")
    servers+=("$job $gpus $from ${to:-$(date +%s)} $(bounds::_last_sign "${file%.json}")")
  done
  ((${#servers[@]})) || { printf 0 && return; }
  # not known is not gone
  ((${#silent[@]} == 0)) || gone=$(sched::gone_of "${silent[@]}") || gone=''
  while read -r job gpus from to last; do
    [[ $'\n'$gone$'\n' != *$'\n'"$job"$'\n'* ]] || to=$last
    ((to <= from)) || sum=$((sum + gpus * (to - from)))
  done < <(printf '%s\n' "${servers[@]}")
  printf '%d' "$sum"
}

bounds::_time() { # bounds::_time KEY: in seconds since 1970; nothing where JSON on stdin has none
  local text
  text=$(json::text "$1")
  [[ -z $text ]] || date -d "$text" +%s 2>/dev/null || true
}

bounds::_last_sign() { # bounds::_last_sign SERVICES/SERVICE_JOB: when it last wrote a word or a sample, in seconds since 1970
  { stat --format=%Y "$1.json" "$1.load.csv" 2>/dev/null || true; } | sort -n | tail -n 1
}

bounds::_last_reason() { # of the run that was lost last
  local file newest=''
  for file in "$RUN_GROUP/ends/$BOUNDS_PARTS".*.lost.*; do
    [[ -n $newest && ! $file -nt $newest ]] || newest=$file
  done
  head -c 250 "$newest" 2>/dev/null | tr -s '\n' ' ' || true
}

# ---- a run's end

# A hook, and the first that was made: all else has ended. A job that left its rollout to another one has nothing to note.
bounds::_note() {
  local state=$RUN_STATE used
  case $state:$ASKED_TO_END:$EXIT_CODE in
    :*:0) return 0 ;;
    :true:* | waiting:* | running:*) state=cancelled ;;
    :*) state=lost ;;
  esac
  used=$(bounds::_used)
  printf '%s\n' "${RUN_REASON:-${DIED:-the job script ended early (code $EXIT_CODE): see its log}}" |
    common::write_atomic "$RUN_GROUP/ends/$BOUNDS_PARTS.$JOB_ID.$state.$used" ||
    log "can't write to $RUN_GROUP/ends: $(common::lacking "$RUN_GROUP")"
}

# TOKENS.MICROUSD of this run by its agent's own count, of which nothing is believed but numbers.
bounds::_used() {
  local copy=$RUN_GROUP/ends/.$JOB_ID prompt=0 completion=0 what agent model price_prompt price_completion first=0 second=0
  if [[ -n $RUN && -d $RUN/logs && ! -L $RUN/logs ]] && agent::copy "$RUN/logs/usage.json" 65536 "$copy" >/dev/null; then
    prompt=$(bounds::_count prompt_tokens <"$copy") completion=$(bounds::_count completion_tokens <"$copy")
  fi
  rm -f "$copy"
  while read -r what agent model price_prompt price_completion; do
    # shellcheck disable=SC2153 # the job script's
    [[ $what != price || $agent != "$AGENT" || $model != "$MODEL_LABEL" ]] || first=$price_prompt second=$price_completion
  done < <(cat "$RUN_GROUP/bounds" 2>/dev/null || true)
  LC_ALL=C awk -v a="$prompt" -v b="$completion" -v p="$first" -v q="$second" 'BEGIN {printf "%.0f.%.0f", a + b, a * p + b * q}'
}

bounds::_count() { # bounds::_count KEY: the first whole number that JSON on stdin has under it, of at most 15 digits; 0 where there is none
  local found
  found=$(LC_ALL=C tr -cd ' -~\n' | grep -oE "\"$1\": *[0-9]{1,15}([^0-9.eE]|\$)" | head -n 1) || true
  found=${found#*:}
  found=${found//[!0-9]/}
  printf '%s' "${found:-0}"
}
