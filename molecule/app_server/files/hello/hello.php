hello from php, release <?= getenv("APP_RELEASE") ?> at <?= preg_replace("/[?].*/", "", $_SERVER["REQUEST_URI"]) ?>
