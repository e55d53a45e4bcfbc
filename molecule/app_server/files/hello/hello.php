hello from php, release <?= getenv("APP_RELEASE") ?> at <?= preg_replace("/[?].*/", "", $_SERVER["REQUEST_URI"]) ?><?= isset($_GET["show"]) ? " in " . $_SERVER[$_GET["show"]] : "" ?>
