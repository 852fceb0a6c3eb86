# shellcheck shell=bash
# Completes the words of this project's commands in bash: verbs and options as the headers of the scripts name them, and the names of
# sites, models, agents, tasks and runs. In your ~/.bashrc:  source /path/to/scripts_hpc/completion.bash
# Files and folders are all that is looked at: no Python is started, no scheduler asked. For a shell that is a person's own, so nothing
# here sets an option of it, and all names begin with _hab.

_HAB_ROOT=$(CDPATH='' cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

_hab_script() { # _hab_script WORD: sets HAB_SCRIPT, the file that a command's first word means; code 1 where it is none of ours
  local file=$1
  # shellcheck disable=SC2088 # as it was typed
  [[ $file != '~/'* ]] || file=$HOME/${file#\~/}
  [[ $file == */* ]] || file=$_HAB_ROOT/scripts_hpc/$file
  [[ $1 == */* || -f $file ]] || file=$_HAB_ROOT/containers/$1
  HAB_SCRIPT=$file HAB_ROOT=${file%/*}/..
  [[ -f $file && -f $HAB_ROOT/scripts_hpc/lib/common.sh ]]
}

_hab_header() { # sets HAB_HEADER, the lines of the comment that is the script's help
  local line
  HAB_HEADER=()
  while IFS= read -r line && [[ $line == \#* ]]; do
    [[ $line == '#!'* ]] || HAB_HEADER+=("${line#\#}")
  done <"$HAB_SCRIPT"
}

# What the header says of options: HAB_OPTIONS, in their order, and HAB_VALUE[option], the word for its value, where it takes one.
_hab_options() {
  local line pattern='(^|[[]|\||,|  |\.sh)[[:blank:]]*(--[a-z][a-z-]*[a-z])(([ ]|\[)([A-Za-z|_]+))?' rest taken
  HAB_OPTIONS=()
  unset HAB_VALUE
  declare -gA HAB_VALUE=()
  for line in "${HAB_HEADER[@]}"; do
    rest=$line
    while [[ $rest =~ $pattern ]]; do
      taken=${BASH_REMATCH[2]}
      [[ " ${HAB_OPTIONS[*]} " == *" $taken "* ]] || HAB_OPTIONS+=("$taken")
      # a value is in capitals, or one of two words
      case ${BASH_REMATCH[5]} in
        [A-Z]* | *\|*) HAB_VALUE[$taken]=${BASH_REMATCH[5]} ;;
      esac
      rest=${rest#*"${BASH_REMATCH[0]}"}
    done
  done
}

# What the usage says: HAB_VERBS, and HAB_PLACES[verb], the words for what comes after it; of a script without verbs HAB_PLACES[none].
_hab_usage() {
  local line part words name verb optional='\[-[^]]*\]…?'
  HAB_VERBS=()
  unset HAB_PLACES
  declare -gA HAB_PLACES=()
  for line in "${HAB_HEADER[@]}"; do
    [[ $line == *'Usage: '* || $line == '        '*/"${HAB_SCRIPT##*/} "* ]] || break
    line=${line#*"${HAB_SCRIPT##*/}"}
    while [[ $line =~ $optional ]]; do line=${line/"${BASH_REMATCH[0]}"/}; done
    line=${line//'[options]'/}
    while [[ -n $line ]]; do # alternatives
      part=${line%%' | '*}
      [[ $line == *' | '* ]] && line=${line#*' | '} || line=''
      read -ra words <<<"${part//[][]/}"
      case ${words[0]:-} in
        '' | -*) ;;
        [a-z]*)
          IFS='|' read -ra name <<<"${words[0]}"
          for verb in "${name[@]}"; do
            HAB_VERBS+=("$verb")
            HAB_PLACES[$verb]=${words[*]:1}
          done
          ;;
        *) HAB_PLACES[none]=${words[*]} ;;
      esac
    done
  done
}

# ---- where things are

_hab_given() { # _hab_given OPTION [PREFIX]: sets HAB_GIVEN, the last value that the words give to an option, behind PREFIX
  local i word
  HAB_GIVEN=''
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${COMP_WORDS[i]} == "$1" ]] || continue
    # COMP_WORDBREAKS has '=': key=value are three words
    word=${COMP_WORDS[i + 1]-}
    [[ $word != '=' ]] || word=${COMP_WORDS[i + 2]-}
    if [[ -z ${2-} ]]; then
      HAB_GIVEN=$word
    elif [[ $word == "$2"=* ]]; then
      HAB_GIVEN=${word#*=}
    elif [[ $word == "$2" && ${COMP_WORDS[i + 2]-} == '=' ]]; then
      HAB_GIVEN=${COMP_WORDS[i + 3]-}
    fi
  done
}

_hab_expand() { # _hab_expand TEXT: sets HAB_TEXT; code 1 where a variable isn't set
  local text=$1 name tries=0
  # shellcheck disable=SC2088 # as it stands in the file
  [[ $text != '~/'* ]] || text=$HOME/${text#\~/}
  while [[ $text =~ \$\{([A-Za-z_][A-Za-z_0-9]*)(:-([^}]*))?\} || $text =~ \$([A-Za-z_][A-Za-z_0-9]*) ]]; do
    name=${BASH_REMATCH[1]}
    [[ -n ${!name:-} || -n ${BASH_REMATCH[3]-} ]] && ((tries++ < 20)) || return 1
    text=${text/"${BASH_REMATCH[0]}"/"${!name:-${BASH_REMATCH[3]-}}"}
  done
  HAB_TEXT=$text
}

_hab_site() { # sets HAB_FILE, the file of the site that the words mean; empty for none
  local file line pattern
  _hab_given --site
  local name=${HAB_GIVEN:-${HPC_SITE:-}}
  HAB_FILE=''
  case $name in
    '') ;;
    *.yaml | *.yml) HAB_FILE=${name/#'~/'/$HOME/} && return ;;
    *) HAB_FILE=$HAB_ROOT/site-config/$name.yaml && return ;;
  esac
  for file in "$HAB_ROOT"/site-config/*.yaml; do
    while IFS= read -r line; do
      [[ $line == hostname_pattern:* ]] || continue
      pattern=${line#*:}
      [[ $pattern =~ \'(.*)\' ]] || break
      pattern=${BASH_REMATCH[1]//'\d'/[0-9]}
      pattern=${pattern//'\w'/A-Za-z0-9_}
      { [[ $HOSTNAME =~ $pattern ]]; } 2>/dev/null && HAB_FILE=$file && return
      break
    done <"$file"
  done
}

_hab_path() { # _hab_path KEY: sets HAB_TEXT, paths.KEY of the site, as far as files tell; code 1 where they don't
  local key=$1 variable=HPC_PATHS__${1^^} file line value='' depth parent
  _hab_given --set "paths.$key"
  value=${HAB_GIVEN:-${!variable:-}}
  _hab_site
  file=$HAB_FILE
  for ((depth = 0; depth < 6 && ${#value} == 0; depth++)); do
    [[ -f $file ]] || file=$HAB_ROOT/site-config/default.yaml
    parent=''
    while IFS= read -r line; do
      [[ ! $line =~ ^extends:\ *([^ #]+) ]] || parent=${BASH_REMATCH[1]}
      if [[ $line =~ ^\ +$key:\ +([^\ #]+) || $line =~ ^paths:\ *\{(.*[ ,])?$key:\ *([^ ,}]+) ]]; then
        value=${BASH_REMATCH[2]:-${BASH_REMATCH[1]}}
        break
      fi
    done <"$file"
    [[ $file != "$HAB_ROOT/site-config/default.yaml" ]] || break
    case $parent in
      '') file=$HAB_ROOT/site-config/default.yaml ;;
      /*) file=$parent ;;
      *.yaml | *.yml) file=${file%/*}/$parent ;;
      *) file=$HAB_ROOT/site-config/$parent.yaml ;;
    esac
  done
  value=${value//[\"\']/}
  [[ -n $value && $value != null ]] && _hab_expand "$value" || return 1
  [[ $HAB_TEXT == /* ]] || HAB_TEXT=$HAB_ROOT/$HAB_TEXT
}

# ---- names: each adds those that begin with HAB_WORD to COMPREPLY

_hab_add() { # _hab_add NAME…
  local name
  for name; do
    if [[ $name == "$HAB_WORD"* ]]; then COMPREPLY+=("$name"); fi
  done
}

_hab_sites() {
  local file
  for file in "$HAB_ROOT"/site-config/*.yaml; do
    file=${file##*/}
    case $file in default.yaml | models.yaml | agents.yaml) ;; *) _hab_add "${file%.yaml}" ;; esac
  done
}

_hab_models() { _hab_keys models; }
_hab_agents() { _hab_keys agents; }
_hab_keys() { # _hab_keys models|agents: the keys of a file, and of an agent its variants
  local line name='' inner=0
  while IFS= read -r line; do
    if [[ $line =~ ^([A-Za-z0-9][A-Za-z0-9._-]*): ]]; then
      name=${BASH_REMATCH[1]} inner=0
      _hab_add "$name"
    elif [[ $line == '  variants:'* ]]; then
      inner=1
    elif [[ $line =~ ^\ {4}([A-Za-z0-9][A-Za-z0-9._-]*): && $inner == 1 ]]; then
      _hab_add "$name/${BASH_REMATCH[1]}"
    elif [[ $line == '  '[a-z]* ]]; then
      inner=0
    fi
  done <"$HAB_ROOT/site-config/$1.yaml"
}

_hab_tasks() {
  local path own=$HAB_ROOT/tasks
  if _hab_path tasks; then own=$HAB_TEXT; fi
  for path in "$HAB_ROOT/templates/tasks/$HAB_WORD"*.json "$own/$HAB_WORD"*.json "$own/$HAB_WORD"*/prepare.py \
    "$HAB_ROOT/templates/tasks/$HAB_WORD"*/tb_meta.json "$own/$HAB_WORD"*/tb_meta.json; do
    [[ -e $path ]] || continue
    [[ $path != */prepare.py && $path != */tb_meta.json ]] || path=${path%/*}
    path=${path##*/}
    _hab_add "${path%.json}"
  done
  _hab_path data || return 0
  for path in "$HAB_TEXT/$HAB_WORD"*/prepared; do
    path=${path%/prepared}
    [[ ! -d $path ]] || _hab_add "${path##*/}"
  done
}

_hab_runs() { # the folders of jobs, whose names begin with the time, the newest first
  local first='' told
  _hab_path runs && [[ -d $HAB_TEXT ]] || return 0
  [[ -n $HAB_WORD ]] || first='[0-9]'
  # there may be ten thousand of them: no loop in bash looks at each (and mapfile reads a pipe byte by byte)
  told=$(CDPATH='' cd -- "$HAB_TEXT" && compgen -G "${HAB_WORD//[*?[\\]/}$first*_*" | LC_ALL=C sort -r)
  [[ -z $told ]] || mapfile -t COMPREPLY <<<"$told"
}

_hab_named() { # _hab_named WORD: what a word of the usage stands for
  case ${1%…} in
    RUN | RUNS) _hab_runs ;;
    COMPETITION | TASK | ID) _hab_tasks ;;
    MODEL) _hab_models ;;
    NAME) [[ ${HAB_SCRIPT##*/} != site.sh ]] || _hab_sites ;;
    [a-z]*\|*)
      local words
      IFS='|' read -ra words <<<"$1"
      _hab_add "${words[@]}"
      ;;
  esac
}

_hab_value() { # _hab_value OPTION
  case $1 in
    --site) _hab_sites ;;
    --agent) _hab_agents ;;
    --model) _hab_models ;;
    --attach) _hab_runs ;;
    *) _hab_named "${HAB_VALUE[$1]}" ;;
  esac
}

_hab_complete() {
  local HAB_WORD=${COMP_WORDS[COMP_CWORD]} HAB_SCRIPT HAB_ROOT HAB_FILE HAB_GIVEN HAB_TEXT
  local before=${COMP_WORDS[COMP_CWORD - 1]} verb=none i word places=() HAB_HEADER HAB_OPTIONS HAB_VERBS place=0
  COMPREPLY=()
  _hab_script "${COMP_WORDS[0]}" || return 0
  # --option=value are three words
  if [[ $HAB_WORD == '=' ]]; then
    HAB_WORD=''
  elif [[ $before == '=' ]]; then
    before=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  _hab_header
  _hab_options
  _hab_usage
  if [[ $before == --* && -n ${HAB_VALUE[$before]:-} ]]; then
    _hab_value "$before"
    return 0
  elif [[ $HAB_WORD == -* ]]; then
    _hab_add "${HAB_OPTIONS[@]}"
    return 0
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -* ]]; then
      [[ ${COMP_WORDS[i + 1]-} != '=' ]] || i=$((i + 1))
      [[ -z ${HAB_VALUE[$word]:-} ]] || i=$((i + 1))
      [[ ${COMP_WORDS[i + 1]-} != '=' ]] || i=$((i + 2)) # of --set key=value
    elif ((${#HAB_VERBS[@]})) && [[ $verb == none ]]; then
      verb=$word
    else
      place=$((place + 1))
    fi
  done
  if ((${#HAB_VERBS[@]})) && [[ $verb == none ]]; then
    _hab_add "${HAB_VERBS[@]}"
    return 0
  fi
  read -ra places <<<"${HAB_PLACES[$verb]:-}"
  ((${#places[@]})) || return 0
  # the last may be given again and again
  if ((place >= ${#places[@]})) && [[ ${places[-1]} == *… ]]; then place=$((${#places[@]} - 1)); fi
  ((place >= ${#places[@]})) || _hab_named "${places[place]}"
}

for HAB_SCRIPT in "$_HAB_ROOT"/scripts_hpc/*.sh "$_HAB_ROOT/containers/build_all_containers.sh"; do
  # the part of a path behind the last slash decides, so this holds for ./scripts_hpc/jobs.sh and /some/where/jobs.sh too
  complete -o default -o nosort -F _hab_complete "${HAB_SCRIPT##*/}"
done
unset HAB_SCRIPT
