# Who and what the pages take for granted: people, and analyzers beside the one of the tutorial.
people() {
  local each
  for each in vera:technologist tess:technologist ada:administrator dora:laboratory_director; do
    LABORA_NEW_PASSWORD=$LABORA_PASSWORD labora user create "${each%:*}" --role "${each#*:}" --as anna
  done
}
links() {
  local each
  for each in hema-2:sysmex_xn hema:sysmex_xn chem:roche_cobas_c311 chem-1:roche_cobas_c311 chem-2:roche_cobas_c311 \
    chem-3:roche_cobas_c311 cobas-1:roche_cobas_c311 imm-1:roche_cobas_e411 imm-2:roche_cobas_e411; do
    printf '\n[[link]]\nid = "%s"\norganization = "main"\ndriver = "%s"\ntransport = { type = "tcp-listen", listen = "127.0.0.1:%s" }\n' \
      "${each%:*}" "${each#*:}" "$(free_port)" >>"$LABORA_CONFIG"
  done
  kill -HUP "$(cat "${LABORA_CONFIG%/*}/labora.pid")"
  labora check | grep -v ^ok || true
  until_so has_link imm-2
}
mail() { # a channel for alerts, and a server that takes what it sends
  local port
  port=$(free_port)
  python -m aiosmtpd -n -l "127.0.0.1:$port" >/dev/null 2>&1 &
  printf '\n[[alerts.channel]]\nid = "mail"\ntype = "smtp"\nserver = "127.0.0.1:%s"\nsecurity = "none"\nfrom = "Labora <labora@lab.example.org>"\n' "$port" >>"$LABORA_CONFIG"
  printf '\n[alerts]\nroster = "%s/roster.toml"\n' "${LABORA_CONFIG%/*}" >>"$LABORA_CONFIG"
  cat >"${LABORA_CONFIG%/*}/roster.toml" <<'END'
[[person]]
id = "anna"
contact = [{ channel = "mail", to = "anna@lab.example.org" }]
[[shift]]
name = "always"
people = ["anna"]
END
}
has_link() { labora link list --json | grep -q "\"$1\""; }
people
mail
links
