# Synapse's settings for a trial: its rate limits stop even administrators, and after an outage it waits for minutes.
let
  unlimited = {
    per_second = 10000;
    burst_count = 10000;
  };
in
{
  rc_message = unlimited;
  rc_registration = unlimited;
  rc_login = {
    address = unlimited;
    account = unlimited;
    failed_attempts = unlimited;
  };
  rc_joins = {
    local = unlimited;
    remote = unlimited;
  };
  rc_joins_per_room = unlimited;
  rc_invites = {
    per_room = unlimited;
    per_user = unlimited;
    per_issuer = unlimited;
  };
  rc_room_creation = unlimited;
  rc_federation = {
    window_size = 1000;
    sleep_limit = 10000;
    sleep_delay = 1;
    reject_limit = 10000;
    concurrent = 100;
  };
  # Integers are milliseconds.
  federation = {
    client_timeout = "20s";
    max_short_retry_delay = 500;
    max_long_retry_delay = "1s";
    max_long_retries = 600;
    destination_min_retry_interval = "1s";
    destination_max_retry_interval = "2s";
    destination_retry_multiplier = 1;
  };
}
